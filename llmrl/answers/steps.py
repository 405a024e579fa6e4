"""Split a text into reasoning steps, by the same rule in training and in process rewards."""

from __future__ import annotations

import re
from typing import Literal

Separator = Literal["blank_line", "line"]
CUTS = {"blank_line": re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+"), "line": re.compile(r"\n\s*")}
LEAST_WORDS = 5
"""Of a step that a blank line ends: empty and tiny steps would be the cheapest way to more of them."""


def step_ends(text: str, separator: Separator = "blank_line", least_words: int = LEAST_WORDS) -> list[int]:
    """End of each step, in characters; a step holds the separator behind it, so the last ends with the text.

    A step of fewer than `least_words` words is one with the step after it, or, at the end, with the one before it.
    Text without a word has no step.
    """
    cuts = [match.end() for match in CUTS[separator].finditer(text)]
    if not cuts or cuts[-1] < len(text):
        cuts.append(len(text))
    ends: list[int] = []
    begin = 0
    for end in cuts:
        if len(text[begin:end].split(None, least_words)) >= least_words:
            ends.append(end)
            begin = end
    if not ends:
        return [len(text)] if text.strip() else []
    ends[-1] = len(text)
    return ends


def steps(text: str, ends: list[int]) -> list[str]:
    """The texts of the steps."""
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
