"""T1 and OREAL by their equations, token by token, without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.checks.verify.oracles.group import NO_SIGNAL, clipped_token, earned, engine_weights, group_advantages
from llmrl.samples import Sample


def t1(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """RLOO over all answers, a clipped surrogate on some of them, an entropy bonus, the divergence."""
    in_reward = algorithm.beta if algorithm.kl_estimator == "k1" else 0.0
    advantages = leave_one_out([row.group for row in rows], [_less_k1(row, in_reward) for row in rows])
    factors: dict[int, float] = {}
    for group in dict.fromkeys(row.group for row in rows):
        judged = [i for i, row in enumerate(rows) if row.group == group and not np.isnan(row.reward)]
        judged.sort(key=lambda i: rows[i].episode)
        sides = [[i for i in judged if (advantages[i] > 0) == good] for good in (True, False)]
        picked = sides
        if algorithm.train_k is not None:  # half of each side, and what one lacks from the other
            good = min(len(sides[0]), max(algorithm.train_k // 2, algorithm.train_k - len(sides[1])))
            picked = [sides[0][:good], sides[1][: algorithm.train_k - good]]
        count = len(picked[0]) + len(picked[1])
        for side, some in zip(sides, picked, strict=True):
            for i in some:
                share = (len(side) / len(judged)) / (len(some) / count)
                factors[i] = share if algorithm.reweight_subset else 1.0
    total = sum(len(_acts(rows[i])) for i in factors)
    paid = algorithm.entropy_coef if algorithm.bonus_is_paid else 0.0
    value, slopes, bonus = 0.0, _zeros(rows), _zeros(rows)
    for i, factor in factors.items():
        row, acts, new = rows[i], _acts(rows[i]), said[i]["logprobs"]
        old = row.get("old_logprobs", new)
        for weight, t in zip(engine_weights(algorithm, row, old, acts), acts, strict=True):
            term, slope = _clipped(algorithm, new[t] - old[t], advantages[i], None)
            term, slope = weight * term - paid * said[i]["entropy"][t], weight * slope
            if algorithm.beta and not in_reward:
                extra = _divergence(algorithm.kl_estimator, new[t], row, t)
                term, slope = term + algorithm.beta * extra[0], slope + algorithm.beta * extra[1]
            value += factor * term / total
            slopes[i][t], bonus[i][t] = factor * slope / total, -factor * paid / total
    return {"policy": OracleAnswer(value, {"logprobs": slopes, "entropy": bonus})}


def oreal(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """Right answers cloned, wrong ones pushed away, by the running mean of a token reward model."""
    paper = algorithm.variant == "paper"
    good = [bool(row.reward > algorithm.right_above if row.correct is None else row.correct) for row in rows]
    known = [i for i, row in enumerate(rows) if not np.isnan(row.reward)]
    mixed = {rows[i].group for i in known if good[i]} & {rows[i].group for i in known if not good[i]}
    judged = [i for i in known if rows[i].group in mixed]
    rewards = [1.0 if right else 0.0 if paper else -1.0 for right in good]
    rewards = [reward if i in judged else np.nan for i, reward in enumerate(rewards)]
    compared = leave_one_out if algorithm.advantage == "leave_one_out" else partial(group_advantages, scale="group")
    advantages = compared([row.group for row in rows], rewards)
    kept = _kept(algorithm, rows, judged, good)
    tokens = {side: sum(len(_acts(rows[i])) for i in kept if good[i] == side) for side in (True, False)}
    value, slopes = 0.0, _zeros(rows)
    loss, pulls = 0.0, _zeros(rows)
    column = "next_values" if paper else "values"
    for i in kept:
        row, acts, new, right = rows[i], _acts(rows[i]), said[i]["logprobs"], good[i]
        weights = _token_weights(algorithm, row.get(column), acts, right)
        for weight, t in zip(weights, acts, strict=True):
            ahead = new[t] - row.get("old_logprobs", new)[t]
            if right:
                advantage = (1.0 if paper else advantages[i]) / tokens[True]
                term, slope = -advantage * weight * new[t], -advantage * weight
            else:
                advantage = algorithm.eta * (-1.0 if paper else advantages[i]) / tokens[False]
                moved = ahead if paper else float(np.exp(ahead))
                term, slope = -advantage * weight * moved, -advantage * weight * (1.0 if paper else moved)
            if algorithm.beta:
                share = algorithm.beta / sum(tokens.values())
                apart = ahead if paper else new[t] - row.ref_logprobs[t]
                term, slope = (
                    term + share * float(np.exp(-apart) - 1 + apart),
                    slope + share * float(1 - np.exp(-apart)),
                )
            value, slopes[i][t] = value + term, slope
        mean = sum(said[i][column][t] for t in acts) / len(acts)
        chance = float(1 / (1 + np.exp(-mean)))
        loss -= float(np.log(chance if right else 1 - chance)) / len(kept)
        for t in acts:
            pulls[i][t] = (chance - right) / len(acts) / len(kept)
    found = {"policy": OracleAnswer(value, {"logprobs": slopes})}
    return found if algorithm.token_weights == "none" else {**found, "critic": OracleAnswer(loss, {column: pulls})}


def _kept(algorithm: Any, rows: Sequence[Sample], judged: Sequence[int], good: Sequence[bool]) -> list[int]:
    """The answers that are learned from; which pair of a group is drawn is the algorithm's to say."""
    if algorithm.selection == "all" or algorithm.token_weights == "none":
        return list(judged)
    kept = sorted(int(row.token_ids[0]) for row in algorithm.credit(rows))
    pairs = sorted((rows[i].group, good[i]) for i in kept)
    assert pairs == sorted((group, side) for group in {rows[i].group for i in judged} for side in (True, False))
    return kept


def leave_one_out(groups: Sequence[str], rewards: Sequence[float]) -> list[float]:
    """The reward less the mean of the others of its group; 0 where nothing is said."""
    advantages = []
    for i, (group, reward) in enumerate(zip(groups, rewards, strict=True)):
        others = [r for j, (g, r) in enumerate(zip(groups, rewards, strict=True)) if g == group and j != i]
        others = [r for r in others if not np.isnan(r)]
        alike = max([*others, reward]) - min([*others, reward]) < NO_SIGNAL
        advantages.append(0.0 if np.isnan(reward) or alike else float(reward - np.mean(others)))
    return advantages


def _token_weights(algorithm: Any, logits: Any, acts: Sequence[int], right: bool) -> list[float]:
    """Weights of the actions, from 0 to 1."""
    if algorithm.token_weights == "none":
        return [1.0] * len(acts)
    weights: list[float] = []
    sides = []
    for n in range(len(acts)):
        chance = 1 / (1 + np.exp(-sum(logits[t] for t in acts[: n + 1]) / (n + 1)))
        sides.append(float(chance if right else 1 - chance))
    if algorithm.token_weights == "threshold":
        return [max(0.0, (side - algorithm.weight_threshold) / (1 - algorithm.weight_threshold)) for side in sides]
    best = sorted(sides, reverse=True)[: max(1, round(algorithm.top_fraction * len(sides)))]
    for side in sides:
        inside = side >= best[-1]
        weights.append(0.0 if not inside else (side - best[-1]) / (best[0] - best[-1]) if best[0] > best[-1] else 1.0)
    return weights


def _clipped(algorithm: Any, apart: float, advantage: float, delta: float | None) -> tuple[float, float]:
    high = algorithm.epsilon if algorithm.epsilon_high is None else algorithm.epsilon_high
    return clipped_token(float(np.exp(apart)), advantage, algorithm.epsilon, high, delta)


def _divergence(estimator: str, new: float, row: Sample, t: int) -> tuple[float, float]:
    apart = new - row.ref_logprobs[t]
    return (
        (apart**2 / 2, apart) if estimator == "k2" else (float(np.exp(-apart) - 1 + apart), float(1 - np.exp(-apart)))
    )


def _less_k1(row: Sample, beta: float) -> float:
    return earned(row) - (beta * sum(_k1(row, _acts(row))) if beta else 0.0)


def _k1(row: Sample, acts: Sequence[int]) -> list[float]:
    return [row.old_logprobs[t] - row.ref_logprobs[t] for t in acts]


def _acts(row: Sample) -> list[int]:
    return [t for t, on in enumerate(row.action_mask) if on]


def _zeros(rows: Sequence[Sample]) -> list[list[float]]:
    return [[0.0] * len(row.token_ids) for row in rows]
