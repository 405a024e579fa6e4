"""Preference optimisation by its equations, one pair at a time (docs/algorithms/preference.md), without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Any

import numpy as np

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.checks.verify.oracles.group import NO_SIGNAL
from llmrl.samples import Sample


def preference(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """The mean over groups of the loss of their best answer against their worst."""
    pairs = []
    for group in dict.fromkeys(row.group for row in rows):
        known = [i for i, row in enumerate(rows) if row.group == group and not np.isnan(row.reward)]
        known.sort(key=lambda i: rows[i].episode)
        best = max(known, key=lambda i: rows[i].reward)
        worst = min(known, key=lambda i: rows[i].reward)
        if rows[best].reward - rows[worst].reward >= NO_SIGNAL:
            pairs.append((best, worst))
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    for best, worst in pairs:
        scores, parts = [], []
        for i in (best, worst):
            score, slope = _score(algorithm, rows[i], said[i]["logprobs"])
            scores.append(score)
            parts.append(slope)
        loss, by_best, by_worst = _loss(algorithm, scores[0], scores[1], rows[best].reward - rows[worst].reward)
        value += loss / len(pairs)
        for i, slope, by in ((best, parts[0], by_best), (worst, parts[1], by_worst)):
            for t, share in slope.items():
                slopes[i][t] += by * share / len(pairs)
        if _imitation(algorithm):
            acts = [t for t in range(len(rows[best].token_ids)) if rows[best].turn_ids[t] >= 0]
            for t in acts:
                value -= _imitation(algorithm) * said[best]["logprobs"][t] / len(acts) / len(pairs)
                slopes[best][t] -= _imitation(algorithm) / len(acts) / len(pairs)
    return {"policy": OracleAnswer(value, {"logprobs": slopes})}


def _imitation(algorithm: Any) -> float:
    """Weight of the likelihood of the better answer: 1 of ORPO, 0 of the others, unless it is given."""
    if algorithm.nll_coef is None:
        return 1.0 if algorithm.loss_type == "orpo" else 0.0
    return float(algorithm.nll_coef)


def _without_reference(algorithm: Any) -> bool:
    """True of SimPO, ORPO and CPL, unless it is given."""
    if algorithm.reference_free is None:
        return algorithm.loss_type in ("simpo", "orpo", "cpl")
    return bool(algorithm.reference_free)


def _score(algorithm: Any, row: Sample, logprobs: Sequence[float]) -> tuple[float, dict[int, float]]:
    """The score of an answer, and its slope by each token's log-probability."""
    acts = [t for t in range(len(row.token_ids)) if row.turn_ids[t] >= 0]
    mean = algorithm.loss_type in ("ipo", "simpo", "orpo")
    shares = {t: algorithm.gamma ** int(row.turn_ids[t]) / (len(acts) if mean else 1) for t in acts}
    against = [0.0] * len(row.token_ids) if _without_reference(algorithm) else row.ref_logprobs
    return sum(share * (logprobs[t] - float(against[t])) for t, share in shares.items()), shares


def _loss(algorithm: Any, best: float, worst: float, gap: float) -> tuple[float, float, float]:
    """The loss of a pair, and its slopes by both scores."""
    beta, wrong = algorithm.beta, algorithm.label_smoothing
    if algorithm.loss_type == "ipo":
        away = best - worst - 0.5 / beta
        return away**2, 2 * away, -2 * away
    if algorithm.loss_type == "orpo":
        odds = log(exp(best) / (1 - exp(best))) - log(exp(worst) / (1 - exp(worst)))
        slope = -beta / (1 + exp(odds))
        return beta * log(1 + exp(-odds)), slope / (1 - exp(best)), -slope / (1 - exp(worst))
    if algorithm.loss_type == "cpl":
        low = algorithm.conservatism
        right, flipped = beta * (best - low * worst), beta * (worst - low * best)
        to_right, to_flipped = -(1 - wrong) / (1 + exp(right)), -wrong / (1 + exp(flipped))
        loss = (1 - wrong) * log(1 + exp(-right)) + wrong * log(1 + exp(-flipped))
        return loss, beta * (to_right - low * to_flipped), beta * (to_flipped - low * to_right)
    margin = beta * (best - worst)
    margin -= algorithm.simpo_gamma if algorithm.loss_type == "simpo" else algorithm.advantage_margin * gap
    if algorithm.loss_type == "hinge":
        return max(0.0, 1 - margin), -beta * (margin < 1), beta * (margin < 1)
    if algorithm.loss_type == "robust":
        loss = ((1 - wrong) * log(1 + exp(-margin)) - wrong * log(1 + exp(margin))) / (1 - 2 * wrong)
        slope = (-(1 - wrong) / (1 + exp(margin)) - wrong / (1 + exp(-margin))) / (1 - 2 * wrong)
        return loss, beta * slope, -beta * slope
    loss = (1 - wrong) * log(1 + exp(-margin)) + wrong * log(1 + exp(margin))
    slope = -(1 - wrong) / (1 + exp(margin)) + wrong / (1 + exp(-margin))
    return loss, beta * slope, -beta * slope
