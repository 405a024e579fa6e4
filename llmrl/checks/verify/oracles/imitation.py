"""Behaviour cloning by its equation (docs/algorithms/bc.md), without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.samples import Sample


def bc(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """The likelihood of each answer that counts, times its weight, over their number or that of their tokens."""
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    counts = [row.reward == row.reward for row in rows]
    if algorithm.weights == "filtered":
        counts = [on and row.reward > algorithm.min_reward for row, on in zip(rows, counts, strict=True)]
    acts = [[t for t, turn in enumerate(row.turn_ids) if turn >= 0] for row in rows]
    tokens = sum(len(own) for own, on in zip(acts, counts, strict=True) if on)
    for i, row in enumerate(rows):
        weight = row.reward if algorithm.weights == "reward" else 1.0
        for t in acts[i] if counts[i] else ():
            share = {"sequence_sum": 1 / sum(counts), "sequence": 1 / sum(counts) / len(acts[i]), "token": 1 / tokens}
            value -= share[algorithm.over] * weight * said[i]["logprobs"][t]
            slopes[i][t] -= share[algorithm.over] * weight
    return {"policy": OracleAnswer(value, {"logprobs": slopes})}
