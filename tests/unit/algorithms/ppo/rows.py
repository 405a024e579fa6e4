"""Rows with values, and what tests read of them."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from llmrl.ops.heads import Head
from llmrl.protocols import Forward
from llmrl.samples import Sample
from tests import builders

BARE: dict[str, Any] = {"kl_coef": 0.0, "whiten_advantages": False, "lam": 1.0, "minibatches": 1}
"""Nothing but the advantages: no divergence, no whitening, no old log-probabilities."""


def row(
    group: str = "g", episode: int = 0, reward: float = 0.0, values: tuple[float, ...] = (0.0, 0.0), **columns: Any
) -> Sample:
    """A prompt token, then an action for each value, unless a mask says otherwise."""
    given: dict[str, Any] = {
        name: [9.0, *columns.pop(name)] for name in ("ref_logprobs", "next_values") if name in columns
    }
    old = columns.pop("old_logprobs", [-1.0] * len(values))
    mask = [False, *columns.pop("mask", [True] * len(values))]
    turn = columns.pop("turn", 0)
    dense = columns.pop("token_rewards", None)
    return builders.row(
        group,
        episode,
        reward,
        action_mask=mask,
        turn_ids=[turn if on else -1 for on in mask],
        sampled_logprobs=[0.0, *old],
        old_logprobs=[9.0, *old],
        values=[9.0, *values],
        token_rewards=None if dense is None else [0.0, *dense],
        **given,
        **columns,
    )


def columns(rows: list[Sample], name: str) -> list[list[float]]:
    """Columns of the tokens after the prompt."""
    return [getattr(r, name)[1:].tolist() for r in rows]


def close(want: Any) -> Any:
    return pytest.approx(want, abs=1e-9)


def value_loss(head: Head, outputs: Tensor) -> Forward:
    return Forward(values=head.values(outputs), value_loss=lambda targets: head.terms(outputs, targets))
