"""PPO and its repairs by their equations (docs/algorithms/ppo.md), token by token, without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.checks.verify.oracles.group import clipped_token, engine_weights
from llmrl.checks.verify.oracles.turns import last_tokens
from llmrl.samples import Sample


def ppo(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """Clipped surrogate on estimated advantages; squared errors of the critic."""
    acts = [[t for t, on in enumerate(row.action_mask) if on] for row in rows]
    judged = [i for i, row in enumerate(rows) if not np.isnan(row.reward)]
    earned = {i: channels(algorithm, rows[i], acts[i]) for i in judged}
    if algorithm.whiten_rewards:
        earned = _even(earned)
    advantages = {i: _advantages(algorithm, rows[i], acts[i], earned[i], policy=True) for i in judged}
    aims = {i: _aims(algorithm, rows[i], acts[i], earned[i]) for i in judged}
    if algorithm.whiten_advantages:
        everything = np.array([advantage for i in judged for advantage in advantages[i]])
        spread = np.sqrt(((everything - everything.mean()) ** 2).mean() + 1e-8)
        advantages = {i: [(advantage - everything.mean()) / spread for advantage in advantages[i]] for i in judged}
    count = sum(len(acts[i]) for i in judged)
    inside = _inside(rows, said) if rows[0].support_ids is not None else (rows, said)
    policy = _policy(algorithm, *inside, acts, advantages, count)
    return {"policy": policy, "critic": _critic(algorithm, rows, said, acts, aims, count)}


def nlpo(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """PPO whose surrogate is of the policy over the kept tokens, and whose divergence is of the whole one."""
    found = ppo(algorithm, rows, said)
    slopes = {f"kept_{name}": numbers for name, numbers in found["policy"].gradients.items()}
    return {**found, "policy": OracleAnswer(found["policy"].objective, slopes)}


def _inside(rows: Sequence[Sample], said: Sequence[Numbers]) -> tuple[list[Sample], list[Numbers]]:
    """The rows and the numbers with those over the kept tokens in place of the whole distribution's."""
    among = [row.with_columns(old_logprobs=row.get("old_kept_logprobs")) for row in rows]
    return among, [{"logprobs": one["kept_logprobs"], "entropy": one["kept_entropy"]} for one in said]


def channels(algorithm: Any, row: Sample, acts: Sequence[int]) -> dict[str, list[float]]:
    """Rewards of each action, by channel."""
    ends = [0.0] * len(acts)
    ends[-1] = row.reward - (algorithm.missing_eos_penalty or 0.0 if row.truncated else 0.0)
    of_turns = row.turn_rewards if algorithm.credit_level == "turn" else [0.0] * len(row.turn_rewards)
    for token, reward in zip(last_tokens(row), of_turns, strict=True):
        ends[acts.index(token)] += reward
        ends[-1] -= reward
    found = {"reward": ends}
    if "token_rewards" in row.columns:
        found["token_rewards"] = [0.0] * len(acts)
        for t, reward in enumerate(row.token_rewards):  # at an observation: it belongs to the action before
            before = [i for i, act in enumerate(acts) if act <= t]
            found["token_rewards"][before[-1] if before else 0] += reward
    if algorithm.kl_coef and algorithm.kl_in_reward:
        found["kl"] = [-algorithm.kl_coef * (row.old_logprobs[t] - row.ref_logprobs[t]) for t in acts]
    return found


def _even(earned: Mapping[int, dict[str, list[float]]]) -> dict[int, dict[str, list[float]]]:
    """Rewards divided by their deviation over the step; the mean stays where it is."""
    totals = {i: [sum(parts) for parts in zip(*found.values(), strict=True)] for i, found in earned.items()}
    everything = np.array([number for total in totals.values() for number in total])
    mean, spread = everything.mean(), np.sqrt(everything.var() + 1e-8)
    return {i: {"reward": [float((x - mean) / spread + mean) for x in total]} for i, total in totals.items()}


def _advantages(
    algorithm: Any, row: Sample, acts: Sequence[int], earned: Mapping[str, Sequence[float]], *, policy: bool
) -> list[float]:
    """The sum over k of (gamma lambda)^k delta_(t+k), written out."""
    rewards = [sum(parts) for parts in zip(*earned.values(), strict=True)]
    values = [row.values[t] for t in acts]
    if algorithm.discounts is not None:
        return [aim - value for aim, value in zip(_discounted(algorithm, row, acts, earned), values, strict=True)]
    lam = algorithm.lam_critic
    if policy:
        alpha = algorithm.length_adaptive_lambda
        lam = algorithm.lam if alpha is None else min(1.0, max(0.0, 1.0 - 1.0 / (alpha * len(acts))))
    following = [*values[1:], 0.0]
    if algorithm.bootstrap_truncated and (row.truncated or row.status in ("cut", "max_turns")):
        following[-1] = row.last_values[acts[-1]]
    steps = [_step(algorithm, row, acts, t, algorithm.gamma) for t in range(len(acts))]
    deltas = [r + step * after - v for r, step, after, v in zip(rewards, steps, following, values, strict=True)]
    return [
        sum(prod(lam * step for step in steps[t:u]) * deltas[u] for u in range(t, len(acts))) for t in range(len(acts))
    ]


def _step(algorithm: Any, row: Sample, acts: Sequence[int], t: int, gamma: float) -> float:
    """Discount from an action to the next: that of a token, and that of a turn where another begins."""
    if t + 1 == len(acts):
        ends = row.status != "max_tokens"
    else:
        ends = row.turn_ids[acts[t]] != row.turn_ids[acts[t + 1]]
    return float(gamma * (algorithm.turn_discount if ends else 1.0))


def _aims(algorithm: Any, row: Sample, acts: Sequence[int], earned: Mapping[str, Sequence[float]]) -> list[float]:
    """Target values of the critic, by action."""
    errors = _advantages(algorithm, row, acts, earned, policy=False)
    return [error + row.values[t] for error, t in zip(errors, acts, strict=True)]


def _discounted(algorithm: Any, row: Sample, acts: Sequence[int], earned: Mapping[str, Sequence[float]]) -> list[float]:
    """Each channel's rewards to come, by its own discount, added up."""
    count = len(next(iter(earned.values())))
    sums = [0.0] * count
    for name, rewards in earned.items():
        gamma = dict(algorithm.discounts).get(name, 1.0 if name == "kl" else algorithm.gamma)
        steps = [_step(algorithm, row, acts, t, gamma) for t in range(count)]
        for t in range(count):
            sums[t] += sum(prod(steps[t:u]) * rewards[u] for u in range(t, count))
    return sums


def _policy(
    algorithm: Any,
    rows: Sequence[Sample],
    said: Sequence[Numbers],
    acts: Sequence[Sequence[int]],
    advantages: Mapping[int, Sequence[float]],
    count: int,
) -> OracleAnswer:
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    bonus = [[0.0] * len(row.token_ids) for row in rows]
    right = sum(len(acts[i]) for i in advantages if rows[i].correct)
    high = algorithm.epsilon if algorithm.epsilon_high is None else algorithm.epsilon_high
    for i, own in advantages.items():
        row, new = rows[i], said[i]["logprobs"]
        old = row.get("old_logprobs", new)
        engine = engine_weights(algorithm, row, old, acts[i])
        for advantage, weight, t in zip(own, engine, acts[i], strict=True):
            term, slope = clipped_token(
                float(np.exp(new[t] - old[t])), advantage, algorithm.epsilon, high, algorithm.delta
            )
            term, slope = weight * term - algorithm.entropy_coef * said[i]["entropy"][t], weight * slope
            if algorithm.kl_coef and not algorithm.kl_in_reward:
                apart = new[t] - row.ref_logprobs[t]
                k2 = algorithm.kl_estimator == "k2"
                term += algorithm.kl_coef * (apart**2 / 2 if k2 else float(np.exp(-apart)) - 1 + apart)
                slope += algorithm.kl_coef * (apart if k2 else 1 - float(np.exp(-apart)))
            value, slopes[i][t] = value + term / count, slope / count
            bonus[i][t] = -algorithm.entropy_coef / count
            if algorithm.positive_nll_coef and row.correct:
                value -= algorithm.positive_nll_coef * new[t] / right
                slopes[i][t] -= algorithm.positive_nll_coef / right
    return OracleAnswer(value, {"logprobs": slopes, "entropy": bonus})


def _critic(
    algorithm: Any,
    rows: Sequence[Sample],
    said: Sequence[Numbers],
    acts: Sequence[Sequence[int]],
    aims: Mapping[int, Sequence[float]],
    count: int,
) -> OracleAnswer:
    value, slopes = 0.0, [[0.0] * len(row.token_ids) for row in rows]
    for i, own in aims.items():
        before = rows[i].values
        for aim, t in zip(own, acts[i], strict=True):
            now, reach = said[i]["values"][t], algorithm.cliprange_value
            square, slope = 0.5 * (now - aim) ** 2, now - aim
            if reach is not None:
                near = before[t] + min(max(now - before[t], -reach), reach)
                if 0.5 * (near - aim) ** 2 > square:
                    square, slope = 0.5 * (near - aim) ** 2, (near - aim if near == now else 0.0)
            value, slopes[i][t] = value + square / count, slope / count
    return OracleAnswer(value, {"values": slopes})
