"""Rows for worked cases."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrl.columns import COLUMNS
from llmrl.samples import Sample


def row(actions: int, **given: Any) -> Sample:
    """Make a sample: a prompt token, then actions. A column has an entry per action, and gets one for the prompt."""
    own = {name: [COLUMNS[name].padding, *given.pop(name)] for name in given.keys() & COLUMNS.keys()}
    columns: dict[str, Any] = {
        "token_ids": [0] * (1 + actions),
        "turn_ids": [-1] + [0] * actions,
        "sampled_logprobs": [0.0] * (1 + actions),
    }
    facts: dict[str, Any] = {"group": "g", "episode": 0, "reward": 0.0}
    return Sample(**facts | given, columns=columns | own, dtype=np.float64)


def actions_of(column: Any) -> list[float]:
    """The entries of a column behind that of the prompt token."""
    numbers: list[float] = column[1:].tolist()
    return numbers
