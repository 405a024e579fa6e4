"""WebRL by its equations (docs/algorithms/webrl.md), one turn at a time, without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.samples import Sample

Turn = tuple[int, list[int], float]
"""Row, places of its tokens, advantage."""


def webrl(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """Errors of both heads against the outcome; squared or smooth distances of log-ratios from advantages."""
    turns = [turn for i, row in enumerate(rows) for turn in _turns(algorithm, i, row)]
    value = 0.0
    by_head = {name: [[0.0] * len(row.token_ids) for row in rows] for name in ("heads/v1", "heads/v2")}
    policy, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    for i, places, advantage in turns:
        for name, own in by_head.items():
            error = said[i][name][places[0]] - float(rows[i].reward > algorithm.min_reward)
            value += 0.5 * error * error / len(turns)
            own[i][places[0]] += error / len(turns)
        ours, ref = ([float(numbers[t]) for t in places] for numbers in (said[i]["logprobs"], rows[i].ref_logprobs))
        loss, slope = _distance(algorithm, sum(ours) - sum(ref), advantage, len(places), sum(ref))
        policy += loss / len(turns)
        for t in places:
            slopes[i][t] += slope / len(turns)
    return {"critic": OracleAnswer(value, by_head), "policy": OracleAnswer(policy, {"logprobs": slopes})}


def _distance(algorithm: Any, log_ratio: float, advantage: float, length: int, ref: float) -> tuple[float, float]:
    """Loss of a turn, and its slope by the log-probability of each of its tokens."""
    if algorithm.form == "paper":
        share = 1 / length if algorithm.normalize == "mean_token" else 1.0
        error = algorithm.beta * share * log_ratio - advantage
        return error * error, 2 * error * algorithm.beta * share
    if advantage < 0:
        return 0.0, 0.0
    mean = log_ratio / length
    beta = min(5.0 if exp(ref / length) >= 0.8 else 1.0, abs(advantage / mean))
    gap = beta * mean - advantage
    if abs(gap) < 1:
        return 0.5 * gap * gap / beta, gap / length
    return (abs(gap) - 0.5) / beta, (1.0 if gap > 0 else -1.0) / length


def _turns(algorithm: Any, i: int, row: Sample) -> list[Turn]:
    """Turns of a row from which both models learn."""
    success = row.reward > algorithm.min_reward
    if row.origin == "proposal" or row.reward != row.reward or (row.origin == "replay" and not success):
        return []
    numbers = sorted({int(turn) for turn in row.turn_ids if turn >= 0})
    places = [[t for t, turn in enumerate(row.turn_ids) if turn == number] for number in numbers]
    values = [float(row.values[own[0]]) for own in places]
    made = []
    for u, own in enumerate(places):
        if row.origin == "replay" and algorithm.replay_high < 1:
            mean = exp(sum(float(row.old_logprobs[t]) for t in own) / len(own))
            if not algorithm.replay_low < mean <= algorithm.replay_high:
                continue
        made.append((i, own, _advantage(algorithm, values, u, float(success))))
    return made


def _advantage(algorithm: Any, values: Sequence[float], u: int, outcome: float) -> float:
    last = u == len(values) - 1
    after = 0.0 if last else values[u + 1]
    if algorithm.form == "paper":
        reward = outcome if last else 0.0
        lam = float(algorithm.lam)
        return lam * (reward + after - values[u]) + (1 - lam) * (outcome - values[u])
    ahead = sum(outcome * 0.9**k for k in range(len(values) - u))
    return 1.0 if after - values[u] - 0.05 + outcome + ahead >= 0 else -0.6
