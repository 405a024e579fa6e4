"""PRO by its equation, one ranking at a time (docs/algorithms/pro.md), without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Any

import numpy as np

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.checks.verify.oracles.group import NO_SIGNAL
from llmrl.samples import Sample


def pro(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """The mean over groups of their list-wise loss and the likelihood of their best answer."""
    rankings = []
    for group in dict.fromkeys(row.group for row in rows):
        known = [i for i, row in enumerate(rows) if row.group == group and not np.isnan(row.reward)]
        known.sort(key=lambda i: (-rows[i].reward, rows[i].episode))
        if rows[known[0]].reward - rows[known[-1]].reward >= NO_SIGNAL:
            rankings.append(known)
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    for ranking in rankings:
        acts = [[t for t, turn in enumerate(rows[i].turn_ids) if turn >= 0] for i in ranking]
        scores = [sum(said[i]["logprobs"][t] for t in own) / len(own) for i, own in zip(ranking, acts, strict=True)]
        loss, by_score = _listwise(scores, [rows[i].reward for i in ranking])
        imitation = algorithm.nll_coef * (len(ranking) - 1) ** 2
        value += (loss - imitation * scores[0] * len(acts[0])) / len(rankings)
        for i, own, slope in zip(ranking, acts, by_score, strict=True):
            for t in own:
                slopes[i][t] += slope / len(own) / len(rankings)
        for t in acts[0]:
            slopes[ranking[0]][t] -= imitation / len(rankings)
    return {"policy": OracleAnswer(value, {"logprobs": slopes})}


def _listwise(scores: Sequence[float], rewards: Sequence[float]) -> tuple[float, list[float]]:
    """The loss of a ranking, and its slope by each score."""
    value, slopes = 0.0, [0.0] * len(scores)
    for k in range(len(scores) - 1):
        temperatures = {j: rewards[k] - rewards[j] for j in range(k + 1, len(scores))}
        own = max(temperatures.values())
        odds = {j: exp(scores[j] * temperature) for j, temperature in temperatures.items()}
        total = exp(scores[k] * own) + sum(odds.values())
        value += log(total) - scores[k] * own
        slopes[k] += own * exp(scores[k] * own) / total - own
        for j, temperature in temperatures.items():
            slopes[j] += temperature * odds[j] / total
    return value, slopes
