"""Types of options with the range in which they make sense; a recipe with another value is refused when it is read.

    max_words: Whole = 30
    share: Share = 0.25

Of every option a number that is NaN or infinite is refused, and a whole number of more than 64 bits; `Unlimited` may be
infinite.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from llmrl.plugins import MAY_BE_INFINITE

Count = Annotated[int, Ge(1)]
"""At least 1."""
Whole = Annotated[int, Ge(0)]
"""At least 0."""
Seed = Annotated[int, Ge(0), Lt(2**32)]
"""What NumPy takes as a seed. Python's own generator does not tell -1 from 1."""
Share = Annotated[float, Ge(0), Le(1)]
"""From 0 to 1."""
ShareBelowAll = Annotated[float, Ge(0), Lt(1)]
"""From 0 to below 1: a dropout, or a rate of decay."""
PositiveShare = Annotated[float, Gt(0), Le(1)]
"""Above 0 and at most 1."""
Positive = Annotated[float, Gt(0)]
"""Above 0."""
Amount = Annotated[float, Ge(0)]
"""At least 0."""
Unlimited = Annotated[float, Ge(0), MAY_BE_INFINITE]
"""At least 0; infinite is no limit."""
Temperature = Annotated[float, Ge(0), Le(100)]
"""Of sampling; 0 is greedy."""
Rate = Annotated[float, Ge(0), Le(1)]
"""Learning rate. Adam moves each weight by about as much in a step: more than 1 is a slip of the sign in `1e-6`."""
Seconds = Annotated[float, Gt(0), Le(1e7)]
"""Limit of time: above 0, at most about four months, beyond which clocks of the system overflow."""
