"""Rows for worked cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmrl.types import Sample

WHOLE = ("group", "semantics", "action_mask")
"""Columns that are given as they are."""


def row(actions: int, **columns: Any) -> Sample:
    """One prompt token, then actions; a column has an entry per action, and gets one more for the prompt."""
    reward = columns.pop("reward", 0.0)
    given = {
        name: [0.0, *values] if isinstance(values, Sequence) and name not in WHOLE else values
        for name, values in columns.items()
    }
    base: dict[str, Any] = {
        "group": "g",
        "episode": 0,
        "reward": reward,
        "turn_rewards": [0.0],
        "token_ids": [0] * (1 + actions),
        "turn_ids": [-1] + [0] * actions,
        "action_mask": [False] + [True] * actions,
        "sampled_logprobs": [0.0] * (1 + actions),
    }
    return Sample(**base | given)
