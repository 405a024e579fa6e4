"""KTO by its equation (docs/algorithms/kto.md), one answer at a time, without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.samples import Sample


def kto(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """The mean over answers of weight times one less value; the reference point is what mismatched answers say."""
    known = [i for i, row in enumerate(rows) if row.reward == row.reward and row.role != "mismatched"]
    point = _point(rows) if algorithm.loss_type == "kto" else 0.0
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    for i in known:
        row, acts = rows[i], [t for t, turn in enumerate(rows[i].turn_ids) if turn >= 0]
        good = row.role == "chosen" if row.role else bool(row.correct)
        if row.role is None and row.correct is None:
            good = row.reward > algorithm.desirable_above
        weight = (algorithm.desirable_weight if good else algorithm.undesirable_weight) / len(known)
        ratio = sum(said[i]["logprobs"][t] - float(row.ref_logprobs[t]) for t in acts)
        z = (1 if good else -1) * algorithm.beta * (ratio - point)
        likely = 1 / (1 + exp(-z))
        value += weight * (1 - likely)
        for t in acts:
            slopes[i][t] -= weight * likely * (1 - likely) * (1 if good else -1) * algorithm.beta
    return {"policy": OracleAnswer(value, {"logprobs": slopes})}


def _point(rows: Sequence[Sample]) -> float:
    """Mean log-ratio of the mismatched answers before the step, not below 0; the rows' number where there are none."""
    behind_others = [row for row in rows if row.role == "mismatched"]
    if not behind_others:
        return rows[0].numbers.get("reference_point", 0.0)
    ratios = [
        float(row.old_logprobs[t] - row.ref_logprobs[t])
        for row in behind_others
        for t, turn in enumerate(row.turn_ids)
        if turn >= 0
    ]
    return max(0.0, sum(ratios) / len(behind_others))
