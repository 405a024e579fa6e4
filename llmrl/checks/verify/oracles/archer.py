"""ArCHer by its equations (docs/algorithms/archer.md), one turn at a time, without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, sqrt
from statistics import fmean, pvariance
from typing import Any

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.samples import Sample

NAMES = ("next_heads/q1", "next_heads/q2", "heads/v1", "heads/v2", "heads/w")


def archer(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """Bellman errors of two Q, errors of two V and of the token baseline; the policy learns by Q - V."""
    kept = [i for i, row in enumerate(rows) if row.origin == "proposal" or row.reward == row.reward]
    answered, current = ("fresh", "replay"), ("fresh", "proposal")
    critic = _Sums(rows)
    bellman = [(i, u) for i in kept if rows[i].origin in answered for u in _known(rows[i])]
    for i, u in bellman:
        turns = _turns(rows[i])
        for head in ("1", "2"):
            aim = _reward(rows[i], u)
            if u < len(turns) - 1:
                aim += float(algorithm.gamma) * said[i][f"target_heads/v{head}"][turns[u + 1][0]]
            critic.square(f"next_heads/q{head}", i, turns[u][-1], said, aim, 1 / len(bellman))
    data = answered if algorithm.v_target == "expectile" else current
    valued = [(i, turn) for i in kept if rows[i].origin in data for turn in _turns(rows[i])]
    for i, turn in valued:
        for head in ("1", "2"):
            aim = said[i][f"next_target_heads/q{head}"][turn[-1]]
            above = aim > said[i][f"heads/v{head}"][turn[0]]
            share = 1.0
            if algorithm.v_target == "expectile":
                share = algorithm.expectile if above else 1 - algorithm.expectile
            critic.square(f"heads/v{head}", i, turn[0], said, aim, share / len(valued))
    data = answered if algorithm.actor_loss == "awr" else current
    acting = [(i, turn) for i in kept if rows[i].origin in data for turn in _turns(rows[i])]
    if algorithm.token_baseline:
        lengths = [len(turn) for _, turn in acting]
        cells = sum(lengths) if algorithm.baseline_over == "tokens" else max(lengths) * len(lengths)
        for i, turn in acting:
            for t in turn:
                critic.square("heads/w", i, t, said, _advantage(rows[i], turn), 1 / cells)
    return {"critic": critic.answer(), "policy": _policy(algorithm, rows, said, acting)}


class _Sums:
    """A sum of squared errors and its slopes."""

    def __init__(self, rows: Sequence[Sample]) -> None:
        self.value = 0.0
        self.slopes = {name: [[0.0] * len(row.token_ids) for row in rows] for name in NAMES}

    def square(self, name: str, i: int, t: int, said: Sequence[Numbers], aim: float, weight: float) -> None:
        error = said[i][name][t] - aim
        self.value += weight * error * error
        self.slopes[name][i][t] += 2 * weight * error

    def answer(self) -> OracleAnswer:
        return OracleAnswer(self.value, self.slopes)


def _policy(
    algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers], acting: Sequence[tuple[int, Sequence[int]]]
) -> OracleAnswer:
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    advantages = [_advantage(rows[i], turn) for i, turn in acting]
    if algorithm.whiten_advantages:
        advantages = [(a - fmean(advantages)) / sqrt(pvariance(advantages) + 1e-8) for a in advantages]
    for (i, turn), advantage in zip(acting, advantages, strict=True):
        ours, share = said[i]["logprobs"], 1 / len(acting)
        if algorithm.actor_loss == "awr":
            advantage = min(exp(algorithm.inv_temp * advantage), algorithm.max_weight)
        if algorithm.actor_loss == "ppo_clip" and algorithm.ratio_level == "turn":
            log_ratio = sum(ours[t] - rows[i].sampled_logprobs[t] for t in turn)
            loss, slope = _clipped(algorithm, log_ratio, advantage)
            value += share * loss
            for t in turn:
                slopes[i][t] += share * slope
            continue
        divergence = sum(ours[t] - rows[i].ref_logprobs[t] for t in turn) if algorithm.actor_loss == "pg_kl" else 0.0
        for t in turn:
            own = advantage - (float(rows[i].baselines[t]) if algorithm.token_baseline else 0.0)
            if algorithm.actor_loss == "ppo_clip":
                loss, slope = _clipped(algorithm, ours[t] - rows[i].sampled_logprobs[t], own)
            else:
                slope = -own
                if algorithm.actor_loss == "pg_kl":
                    slope = (1 - algorithm.kl_coef) * slope + algorithm.kl_coef * (divergence + 1)
                loss = slope * ours[t]
            value += share * loss
            slopes[i][t] += share * slope
    return OracleAnswer(value, {"logprobs": slopes})


def _clipped(algorithm: Any, log_ratio: float, advantage: float) -> tuple[float, float]:
    """Clipped surrogate to minimise, and its slope by the log-probability."""
    ratio, low, high = exp(log_ratio), 1 - algorithm.epsilon, 1 + algorithm.epsilon
    cut = min(max(ratio, low), high)
    if ratio * advantage <= cut * advantage:
        return -ratio * advantage, -ratio * advantage
    return -cut * advantage, 0.0


def _advantage(row: Sample, turn: Sequence[int]) -> float:
    return float(row.next_values[turn[-1]]) - float(row.values[turn[0]])


def _known(row: Sample) -> range:
    """Turns whose next state is known, or none: all but the last of an episode that a limit cut off."""
    return range(len(_turns(row)) - (row.status != "done"))


def _reward(row: Sample, u: int) -> float:
    """Reward of a turn; the last one's holds what the episode earned besides."""
    turns = _turns(row)
    return float(row.turn_rewards[u]) + (row.reward - sum(row.turn_rewards) if u == len(turns) - 1 else 0.0)


def _turns(row: Sample) -> list[list[int]]:
    """Places of the tokens of each turn."""
    numbers = sorted({int(turn) for turn in row.turn_ids if turn >= 0})
    return [[t for t, turn in enumerate(row.turn_ids) if turn == number] for number in numbers]
