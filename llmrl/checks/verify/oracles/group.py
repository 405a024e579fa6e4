"""The group methods by their equations, one token at a time (docs/algorithms/grpo.md), without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from llmrl.checks.verify.form import Numbers, OracleAnswer
from llmrl.checks.verify.oracles.turns import advantages_of_turns
from llmrl.samples import Sample

STD_EPSILON = 1e-4
NO_SIGNAL = 1e-6
"""Rewards of a group that differ by less are equal but for rounding."""
BOUNDS = {
    "token_truncate": (0.0, 2.0),
    "token_mask": (0.5, 2.0),
    "sequence_truncate": (0.0, 2.0),
    "sequence_mask": (0.0, 3.0),
    "geometric_mask": (0.999, 1.001),
    "k3_mask": (0.0, 1e-2),
}


def grpo(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, OracleAnswer]:
    """GRPO and its variants, by options."""
    advantages = _advantages(algorithm, rows)
    counts = [not np.isnan(row.reward) and not (algorithm.mask_truncated_completions and row.truncated) for row in rows]
    over = algorithm.loss_average or {"grpo": "sequence", "dr_grpo": "constant"}.get(algorithm.loss_type, "token")
    weights = row_weights(rows, counts, over, algorithm.max_completion_length)
    least = _least_entropy(algorithm, rows, counts)
    value, slopes, bonus = 0.0, [], []
    for i, row in enumerate(rows):
        slopes.append([0.0] * len(row.token_ids))
        bonus.append([0.0] * len(row.token_ids))
        if not counts[i]:
            continue
        total, slope = _sequence(algorithm, row, said[i]["logprobs"], advantages[i], least)
        for t, on in enumerate(row.action_mask):
            if on:
                total -= algorithm.entropy_coef * said[i]["entropy"][t]
                slopes[i][t] = weights[i] * slope[t]
                bonus[i][t] = -weights[i] * algorithm.entropy_coef
        value += weights[i] * total
    return {"policy": OracleAnswer(value, {"logprobs": slopes, "entropy": bonus})}


def _advantages(algorithm: Any, rows: Sequence[Sample]) -> list[list[float]]:
    """Advantage of each token: of its turn, or of the whole episode."""
    if algorithm.credit_level == "turn":
        costs = [_costs(algorithm, row) for row in rows]
        compared = partial(group_advantages, scale=_scale(algorithm))
        return advantages_of_turns(rows, costs, algorithm.turn_discount, compared)
    return [
        [advantage] * len(row.token_ids) for advantage, row in zip(_of_episodes(algorithm, rows), rows, strict=True)
    ]


def _scale(algorithm: Any) -> str:
    """Divisor of advantages; true is the group's deviation, false nothing."""
    if isinstance(algorithm.scale_rewards, bool):
        return "group" if algorithm.scale_rewards else "none"
    return str(algorithm.scale_rewards)


def _of_episodes(algorithm: Any, rows: Sequence[Sample]) -> list[float]:
    """Advantages of the whole reward, or the weighted sum of those of each channel."""
    groups = [row.group for row in rows]
    if algorithm.channels is None:
        return group_advantages(groups, [_penalised(algorithm, row) for row in rows], _scale(algorithm))
    advantages = [0.0] * len(rows)
    for name, weight in algorithm.channels.items():
        earned_by_it = [row.parts[name] if row.reward == row.reward else row.reward for row in rows]
        for i, advantage in enumerate(group_advantages(groups, earned_by_it, _scale(algorithm))):
            advantages[i] += weight * advantage
    return advantages


def group_advantages(groups: Sequence[str], rewards: Sequence[float], scale: str) -> list[float]:
    """(reward - mean of the group) / (deviation + 1e-4), 0 where the group says nothing or the reward is NaN."""
    everything = np.array([r for r in rewards if not np.isnan(r)])
    advantages = []
    for group, reward in zip(groups, rewards, strict=True):
        known = np.array([r for g, r in zip(groups, rewards, strict=True) if g == group and not np.isnan(r)])
        if np.isnan(reward) or len(known) < 2 or known.max() - known.min() < NO_SIGNAL:
            advantages.append(0.0)
            continue
        advantage = reward - known.mean()
        if scale == "group":
            advantage /= known.std(ddof=1) + STD_EPSILON
        elif scale == "batch":
            advantage /= everything.std(ddof=1) + STD_EPSILON
        advantages.append(float(advantage))
    return advantages


def row_weights(rows: Sequence[Sample], counts: Sequence[bool], over: str, length: int | None) -> list[float]:
    """Weight of each action token of a row: 1/N, 1/(B n_i), 1/(B L) or 1/B."""
    tokens = [sum(row.action_mask) if on else 0 for row, on in zip(rows, counts, strict=True)]
    total, many = sum(tokens), sum(1 for on in counts if on)
    if over == "token":
        return [1.0 / total for _ in rows]
    if over == "sequence":
        return [1.0 / (many * n) if n else 0.0 for n in tokens]
    return [1.0 / (many * (float(length or 0) if over == "constant" else 1.0)) for _ in rows]


def clipped_token(ratio: float, advantage: float, low: float, high: float, most: float | None) -> tuple[float, float]:
    """-min(min(r, most) A, clip(r) A), and its derivative by log r."""
    free = ratio if most is None or ratio <= most else most
    free_slope = ratio if most is None or ratio <= most else 0.0
    held = min(max(ratio, 1.0 - low), 1.0 + high)
    if free * advantage <= held * advantage:
        return -free * advantage, -free_slope * advantage
    return -held * advantage, (-ratio * advantage if held == ratio else 0.0)


def earned(row: Sample) -> float:
    """The reward with all that single tokens earned."""
    return float(row.reward + sum(row.get("token_rewards", ())))


def _penalised(algorithm: Any, row: Sample) -> float:
    """The reward, less beta times the summed log(old/ref) where the divergence enters by the reward."""
    return float(earned(row) - sum(_costs(algorithm, row)))


def _costs(algorithm: Any, row: Sample) -> list[float]:
    """beta log(old/ref) of each action, where the divergence enters by the reward."""
    if not (algorithm.beta and algorithm.kl_in_reward):
        return [0.0] * len(row.token_ids)
    return [
        float(algorithm.beta * (row.old_logprobs[t] - row.ref_logprobs[t])) if on else 0.0
        for t, on in enumerate(row.action_mask)
    ]


def engine_weights(algorithm: Any, row: Sample, old: Sequence[float], acts: Sequence[int]) -> list[float]:
    """The weight of each action token for having been sampled by the engine."""
    mode = algorithm.importance_sampling_correction
    if mode == "none":
        return [1.0] * len(acts)
    low, high = BOUNDS[mode]
    floor, cap = getattr(algorithm, "importance_sampling_floor", None), algorithm.importance_sampling_cap
    low, high = (low if floor is None else floor), (high if cap is None else cap)
    apart = [old[t] - row.sampled_logprobs[t] for t in acts]
    if mode.startswith("token"):
        seen = [float(np.exp(d)) for d in apart]
    elif mode.startswith("sequence"):
        seen = [float(np.exp(sum(apart)))] * len(acts)
    elif mode == "geometric_mask":
        seen = [float(np.exp(sum(apart) / len(acts)))] * len(acts)
    else:
        seen = [float(np.mean([np.exp(d) - 1 - d for d in apart]))] * len(acts)
    if mode.endswith("truncate"):
        return [min(max(ratio, low), high) for ratio in seen]
    inside = [low <= ratio <= high for ratio in seen]
    return [
        (1.0 if mode in ("geometric_mask", "k3_mask") else r) if on else 0.0 for r, on in zip(seen, inside, strict=True)
    ]


def _least_entropy(algorithm: Any, rows: Sequence[Sample], counts: Sequence[bool]) -> float:
    """Least entropy of a token that the policy learns from: a quantile over all tokens of the step."""
    if algorithm.top_entropy_quantile == 1:
        return -float("inf")
    known = []
    for row, on in zip(rows, counts, strict=True):
        known += [row.old_entropy[t] for t, chosen in enumerate(row.action_mask) if on and chosen]
    return float(np.quantile(known, 1 - algorithm.top_entropy_quantile))


def _sequence(
    algorithm: Any, row: Sample, new: Sequence[float], advantages: Sequence[float], least: float
) -> tuple[float, list[float]]:
    """The sum of a row's terms, and its derivative by each log-probability."""
    acts = [t for t, on in enumerate(row.action_mask) if on]
    old = row.get("old_logprobs", new)
    engine = engine_weights(algorithm, row, old, acts)
    if algorithm.off_policy_mask_threshold is not None and advantages[acts[0]] < 0:
        drift = sum(row.sampled_logprobs[t] - new[t] for t in acts) / len(acts)
        engine = [0.0] * len(acts) if drift > algorithm.off_policy_mask_threshold else engine
    total, slopes = 0.0, [0.0] * len(row.token_ids)
    for weight, t in zip(engine, acts, strict=True):
        asked = "old_entropy" not in row.columns or row.old_entropy[t] >= least
        term, parts = _policy_term(algorithm, new, old, acts, t, advantages[t] if asked else 0.0)
        total += weight * term
        for u, slope in parts.items():
            slopes[u] += weight * slope
        if algorithm.beta and not algorithm.kl_in_reward:
            apart = new[t] - row.ref_logprobs[t]
            if algorithm.kl_estimator == "k2":
                total, slopes[t] = total + algorithm.beta * apart**2 / 2, slopes[t] + algorithm.beta * apart
            else:
                total += algorithm.beta * float(np.exp(-apart) - 1 + apart)
                slopes[t] += algorithm.beta * float(1 - np.exp(-apart))
    return total, slopes


def _policy_term(
    algorithm: Any, new: Sequence[float], old: Sequence[float], acts: Sequence[int], t: int, advantage: float
) -> tuple[float, dict[int, float]]:
    """The term of a token, and its derivative by the log-probability of that token, or of all of its answer."""
    level = algorithm.importance_sampling_level
    mean = sum(new[u] - old[u] for u in acts) / len(acts)
    ratio = float(np.exp(new[t] - old[t] if level == "token" else mean))
    if algorithm.loss_type == "cispo":
        held = min(max(ratio, algorithm.weight_floor), algorithm.weight_cap)
        return -held * advantage * new[t], {t: -held * advantage}
    high = algorithm.epsilon if algorithm.epsilon_high is None else algorithm.epsilon_high
    term, slope = clipped_token(ratio, advantage, algorithm.epsilon, high, algorithm.delta)
    return term, ({u: slope / len(acts) for u in acts} if level == "sequence" else {t: slope})
