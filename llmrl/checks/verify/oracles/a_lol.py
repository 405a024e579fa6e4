"""A-LoL and its variants by their equations (docs/algorithms/a_lol.md), one answer at a time, without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.samples import Sample


def a_lol(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """Each answer's log-likelihood times advantage and importance weight, by its share; a critic learns the reward."""
    known = [i for i, row in enumerate(rows) if row.reward == row.reward]
    values = {i: _value(algorithm, rows, i, known) for i in known}
    gains = {i: rows[i].reward - values[i] for i in known}
    raw = {i: _share(algorithm.priority, gains[i], min(0.0, *gains.values())) for i in known}
    total = sum(raw.values()) or 1.0
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    for i in known:
        worth = gains[i] if algorithm.variant in ("r_lol", "r_lol_kl", "gold") else max(0.0, gains[i])
        for t, weight in _weights(algorithm, rows[i], said[i]["logprobs"]).items():
            now, share = said[i]["logprobs"][t], raw[i] / total
            value -= share * worth * weight * now
            slopes[i][t] -= share * worth * weight
            if algorithm.variant.endswith("_kl"):
                value += share * algorithm.beta * (now - float(rows[i].ref_logprobs[t]))
                slopes[i][t] += share * algorithm.beta
    answers = {"policy": OracleAnswer(value, {"logprobs": slopes})}
    if algorithm.variant not in ("r_lol", "r_lol_kl", "gold") and algorithm.baseline == "critic":
        answers["critic"] = _critic(rows, said, known)
    return answers


def _value(algorithm: Any, rows: Sequence[Sample], i: int, known: Sequence[int]) -> float:
    if algorithm.variant in ("r_lol", "r_lol_kl", "gold"):
        return 0.0
    if algorithm.baseline == "critic":
        return float(rows[i].values[_acts(rows[i])[0]])
    if algorithm.baseline == "stored":
        return float(rows[i].numbers["value"])
    others = [rows[j].reward for j in known if rows[j].group == rows[i].group and j != i]
    spread = max([*others, rows[i].reward]) - min([*others, rows[i].reward])
    return sum(others) / len(others) if others and spread >= 1e-6 else rows[i].reward


def _share(priority: str, gain: float, least: float) -> float:
    return {
        "none": 1.0,
        "good_random": float(gain > 0),
        "good_priority": max(0.0, gain),
        "all_priority": gain - least,
    }[priority]


def _weights(algorithm: Any, row: Sample, logprobs: Sequence[float]) -> dict[int, float]:
    """Constant importance weight of each action token."""
    acts = _acts(row)
    if algorithm.variant == "gold":
        return {t: max(exp(logprobs[t]), algorithm.gold_floor) for t in acts}
    if algorithm.variant not in ("a_lol", "a_lol_seq", "r_lol"):
        return dict.fromkeys(acts, 1.0)
    apart = {t: logprobs[t] - float(row.ref_logprobs[t]) for t in acts}
    low, high = 1 - algorithm.epsilon, 1 + algorithm.epsilon
    if algorithm.variant == "a_lol_seq":
        return {t: min(max(exp(gap), low), high) for t, gap in apart.items()}
    return dict.fromkeys(acts, min(max(exp(sum(apart.values())), low), high))


def _critic(rows: Sequence[Sample], said: Sequence[Numbers], known: Sequence[int]) -> OracleAnswer:
    """Half the squared error of the number before each answer against its reward."""
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    for i in known:
        t = _acts(rows[i])[0]
        error = said[i]["values"][t] - rows[i].reward
        value += 0.5 * error**2 / len(known)
        slopes[i][t] += error / len(known)
    return OracleAnswer(value, {"values": slopes})


def _acts(row: Sample) -> list[int]:
    return [t for t, turn in enumerate(row.turn_ids) if turn >= 0]
