"""ILQL, XQL and f-DVL by their equations (docs/algorithms/ilql.md), one token at a time, without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Any

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.samples import Sample


def ilql(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """Bellman errors of two Q, the implicit loss of V, the conservative term; the policy imitates by weight."""
    known = [i for i, row in enumerate(rows) if row.reward == row.reward]
    total = sum(len(_acts(rows[i])) for i in known)
    names = ("heads/q1", "heads/q2", "heads/v", "head_logprobs/q1", "head_logprobs/q2")
    slopes = {name: [[0.0] * len(row.token_ids) for row in rows] for name in names}
    pulls, value, imitation = [[0.0] * len(row.token_ids) for row in rows], 0.0, 0.0
    scale = _scale(algorithm, [rows[i] for i in known])
    for i in known:
        acts = _acts(rows[i])
        for place, t in enumerate(acts):
            aim = _aim(algorithm, rows[i], said[i], acts, place)
            for name in ("heads/q1", "heads/q2"):
                error = said[i][name][t] - aim
                loss, slope = _bellman(error, algorithm.huber)
                value += loss / total
                slopes[name][i][t] += slope / total
            gap = min(said[i]["target_heads/q1"][t], said[i]["target_heads/q2"][t]) - said[i]["heads/v"][t]
            loss, slope = implicit(algorithm, gap)
            value += scale * loss / total
            slopes["heads/v"][i][t] -= scale * slope / total
            for name in ("head_logprobs/q1", "head_logprobs/q2"):
                value -= algorithm.cql_weight * said[i][name][t] / total
                slopes[name][i][t] -= algorithm.cql_weight / total
            weight = token_weight(algorithm, rows[i], t)
            imitation -= weight * said[i]["logprobs"][t] / total
            pulls[i][t] -= weight / total
    return {"critic": OracleAnswer(value, slopes), "policy": OracleAnswer(imitation, {"logprobs": pulls})}


def implicit(algorithm: Any, gap: float) -> tuple[float, float]:
    """Loss of V of a gap Q - V, and its slope by the gap."""
    above = gap > 0
    if algorithm.value_loss == "expectile":
        share = algorithm.tau if above else 1 - algorithm.tau
        return share * gap * gap / 2, share * gap
    if algorithm.value_loss == "gumbel":
        z = gap / algorithm.gumbel_beta
        if z > algorithm.gumbel_clip:
            return exp(algorithm.gumbel_clip) - algorithm.gumbel_clip - 1, 0.0
        return exp(z) - z - 1, (exp(z) - 1) / algorithm.gumbel_beta
    lam = algorithm.lam
    if algorithm.value_loss == "tv":
        return lam * max(gap, 0.0) - (1 - lam) * gap, lam * above - (1 - lam)
    surrogate = gap + gap * gap / 4 if above else 0.0
    return lam * surrogate - (1 - lam) * gap, lam * (1 + gap / 2) * above - (1 - lam)


def token_weight(algorithm: Any, row: Sample, t: int) -> float:
    """Weight of a token in the imitation."""
    if algorithm.policy == "bc":
        return 1.0
    apart = algorithm.awac_beta * (float(row.action_values[t]) - float(row.values[t]))
    return exp(min(apart, log(algorithm.max_weight)))


def _aim(algorithm: Any, row: Sample, said: Numbers, acts: Sequence[int], place: int) -> float:
    """Reward of an action and the discounted V of what follows. Each row is an episode."""
    t = acts[place]
    following = acts[place + 1] if place < len(acts) - 1 else len(row.token_ids)
    since = t if place else 0  # what is earned before any action belongs to the first
    reward = float(sum(row.get("token_rewards")[since:following])) if "token_rewards" in row.columns else 0.0
    if place < len(acts) - 1 and algorithm.monte_carlo:
        ahead = _aim(algorithm, row, said, acts, place + 1)
    elif place < len(acts) - 1:
        ahead = said["heads/v"][acts[place + 1]]
    else:
        cut = algorithm.bootstrap_truncated and row.status != "done"
        reward, ahead = reward + row.reward, said["next_heads/v"][t] if cut else 0.0
    return reward + float(algorithm.gamma) * ahead


def _bellman(error: float, huber: float | None) -> tuple[float, float]:
    if huber is None or abs(error) <= huber:
        return error * error / 2, error
    return huber * (abs(error) - huber / 2), huber if error > 0 else -huber


def _scale(algorithm: Any, rows: Sequence[Sample]) -> float:
    """Factor of the Gumbel loss: one over e to the largest exponent of the step, at least -1."""
    if algorithm.value_loss != "gumbel":
        return 1.0
    gaps = [float(row.action_values[t]) - float(row.values[t]) for row in rows for t in _acts(row)]
    return exp(-max(-1.0, min(algorithm.gumbel_clip, max(gap / algorithm.gumbel_beta for gap in gaps))))


def _acts(row: Sample) -> list[int]:
    return [t for t, turn in enumerate(row.turn_ids) if turn >= 0]
