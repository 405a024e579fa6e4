"""The group methods by their equations, one token at a time (docs/algorithms/grpo.md); nothing of `llmrl.ops` is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmrl.checks._form import Answer, Numbers
from llmrl.types import Sample

LIMIT = 20.0
STD_EPSILON = 1e-4


def grpo(algorithm: Any, rows: Sequence[Sample], said: Sequence[Numbers]) -> Mapping[str, Answer]:
    """GRPO and its variants, by options."""
    rewards = [_penalised(algorithm, row) for row in rows]
    gains = group_gains([row.group for row in rows], rewards, algorithm.scale)
    counts = [
        not np.isnan(row.reward) and not (algorithm.mask_truncated_completions and row.truncated) for row in rows
    ]
    weights = row_weights(rows, counts, algorithm.loss_type, algorithm.max_completion_length)
    value, gradients = 0.0, []
    for i, row in enumerate(rows):
        slopes = [0.0] * len(row.token_ids)
        if counts[i]:
            total, slopes = _sequence(algorithm, row, said[i]["logprobs"], gains[i])
            value += weights[i] * total
            slopes = [weights[i] * slope for slope in slopes]
        gradients.append(slopes)
    return {"policy": Answer(value, {"logprobs": gradients})}


def group_gains(groups: Sequence[str], rewards: Sequence[float], scale: str) -> list[float]:
    """(reward - mean of the group) / (deviation + 1e-4), 0 where the group says nothing or the reward is NaN."""
    everything = np.array([r for r in rewards if not np.isnan(r)])
    gains = []
    for group, reward in zip(groups, rewards, strict=True):
        known = np.array([r for g, r in zip(groups, rewards, strict=True) if g == group and not np.isnan(r)])
        if np.isnan(reward) or len(known) < 2 or known.max() - known.min() < 1e-6:
            gains.append(0.0)
            continue
        gain = reward - known.mean()
        if scale == "group":
            gain /= known.std(ddof=1) + STD_EPSILON
        elif scale == "batch":
            gain /= everything.std(ddof=1) + STD_EPSILON
        gains.append(float(gain))
    return gains


def row_weights(rows: Sequence[Sample], counts: Sequence[bool], mode: str, length: int | None) -> list[float]:
    """What each action token of a row weighs: 1/N, 1/(B n_i) or 1/(B L)."""
    tokens = [sum(row.action_mask) if on else 0 for row, on in zip(rows, counts, strict=True)]
    total, many = sum(tokens), sum(1 for on in counts if on)
    if mode == "dapo":
        return [1.0 / total for _ in rows]
    if mode == "grpo":
        return [1.0 / (many * n) if n else 0.0 for n in tokens]
    return [1.0 / (many * float(length or 0)) for _ in rows]


def clipped_token(ratio: float, gain: float, low: float, high: float, most: float | None) -> tuple[float, float]:
    """-min(min(r, most) A, clip(r) A), and its derivative by log r."""
    free = ratio if most is None or ratio <= most else most
    free_slope = ratio if most is None or ratio <= most else 0.0
    held = min(max(ratio, 1.0 - low), 1.0 + high)
    if free * gain <= held * gain:
        return -free * gain, -free_slope * gain
    return -held * gain, (-ratio * gain if held == ratio else 0.0)


def _penalised(algorithm: Any, row: Sample) -> float:
    """The reward less beta times the summed log(old/ref), where that is how the divergence enters."""
    if not (algorithm.beta and algorithm.kl_in_reward):
        return row.reward
    assert row.old_logprobs is not None
    assert row.ref_logprobs is not None
    total = 0.0
    for t, on in enumerate(row.action_mask):
        if on:
            total += row.old_logprobs[t] - row.ref_logprobs[t]
    return row.reward - algorithm.beta * total


def _sequence(algorithm: Any, row: Sample, new: Sequence[float], gain: float) -> tuple[float, list[float]]:
    """The sum of a row's terms, and its derivative by each log-probability."""
    acts = [t for t, on in enumerate(row.action_mask) if on]
    old = row.old_logprobs if row.old_logprobs is not None else list(new)
    mean = sum(new[t] - old[t] for t in acts) / len(acts)
    total, slopes = 0.0, [0.0] * len(row.token_ids)
    for t in acts:
        whole = algorithm.importance_sampling_level == "sequence"
        ratio = float(np.exp(mean if whole else new[t] - old[t]))
        high = algorithm.epsilon if algorithm.epsilon_high is None else algorithm.epsilon_high
        term, slope = clipped_token(ratio, gain, algorithm.epsilon, high, algorithm.delta)
        weight = 1.0
        if algorithm.importance_sampling_correction == "token_truncate":
            weight = min(float(np.exp(old[t] - row.sampled_logprobs[t])), algorithm.importance_sampling_cap)
        total += weight * term
        for u in acts if whole else [t]:
            slopes[u] += weight * slope / (len(acts) if whole else 1)
        if algorithm.beta and not algorithm.kl_in_reward:
            assert row.ref_logprobs is not None
            apart = new[t] - row.ref_logprobs[t]
            if algorithm.kl_estimator == "k2":
                total, slopes[t] = total + algorithm.beta * apart**2 / 2, slopes[t] + algorithm.beta * apart
            else:
                total += algorithm.beta * float(np.exp(-apart) - 1 + apart)
                slopes[t] += algorithm.beta * float(1 - np.exp(-apart))
    return total, slopes
