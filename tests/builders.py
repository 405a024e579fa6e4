"""Values that many tests build: samples, from lists and in float64, so that numbers worked by hand stay as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from llmrl.columns import COLUMNS
from llmrl.samples import Sample, support


def sample(**given: Any) -> Sample:
    """A sample of facts and columns by name, in float64.

    Args:
        action_mask: True where the policy chose the token; overrules `turn_ids`, whose turn is 0 where they are absent.
        support_ids: a list of ids for each token.
    """
    facts: dict[str, Any] = {"group": "g", "episode": 0, "reward": 0.0, "dtype": np.float64}
    columns: dict[str, Any] = {"sampled_logprobs": [0.0] * len(given["token_ids"])}
    mask = given.pop("action_mask", None)
    if mask is not None:
        turns = given.get("turn_ids", [0] * len(mask))
        given["turn_ids"] = [turn if on else -1 for turn, on in zip(turns, mask, strict=True)]
    if given.get("support_ids") is not None:
        given["support_ids"], columns["support_counts"] = support(given["support_ids"])
    for name, value in given.items():
        (columns if name in COLUMNS else facts)[name] = value
    return Sample(**facts, columns={name: column for name, column in columns.items() if column is not None})


def changed(row: Sample, **changes: Any) -> Sample:
    """A copy with other facts, and columns as they are given; None takes a column away."""
    if changes.get("support_ids") is not None:
        changes["support_ids"], changes["support_counts"] = support(changes["support_ids"])
    columns = {name: changes.pop(name) for name in changes.keys() & COLUMNS.keys()}
    return replace(row, **changes).with_columns(**columns)


def actions_of(column: Any, mask: Any) -> list[float]:
    """The entries of a column that stand at action tokens."""
    numbers: list[float] = np.asarray(column)[np.asarray(mask)].tolist()
    return numbers
