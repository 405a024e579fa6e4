"""Numbers of WebRL: advantages of turns, objectives of the policy, and which tasks and stored turns are learned from.

Source: Qi et al. 2024 (arXiv 2411.02337) for `next_and_outcome` and `squared_gap`; its released code for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from llmrl.samples import Array

GOOD, BAD = 1.0, -0.6
"""Binarised advantages of the released code; turns with the second are masked."""
COST = 0.05
"""What a turn costs there, in units of success."""
SURE, SURE_BAD = 0.8, 0.9
"""Mean probabilities of the reference from which a good turn weighs more there, and below which a bad one does."""
STRONG = 5.0
"""Weight of the log-ratio for these; 1 for others."""


def next_and_outcome(values: Array, outcome: float, lam: float) -> Array:
    """Advantages of the turns of an episode, from the value of the next state and from the outcome.

    `A[t] = lam * (r[t] + V[t + 1] - V[t]) + (1 - lam) * (outcome - V[t])`: r is the outcome in the last turn and 0
    before it, and V is 0 behind that.

    Args:
        values: (turns,) probability of success in the state before each turn.
        outcome: 1 for success, 0 for failure.
        lam: from 0, the outcome alone, to 1, the next state alone.
    """
    gained = np.append(values[1:], outcome) - values
    advantages: Array = lam * gained + (1 - lam) * (outcome - values)
    return advantages


def raw_advantages(values: Array, next_values: Array, rewards: Array, returns: Array) -> Array:
    """Advantages of the released code before they are binarised: change of value, less a cost, with reward and return,
    from -1 to 1."""
    advantages: Array = np.clip(next_values - values - COST + rewards + returns, -1.0, 1.0)
    return advantages


def binarised(advantages: Array) -> Array:
    """`GOOD` where an advantage is at least 0, else `BAD`."""
    return np.where(advantages >= 0, GOOD, BAD)


def squared_gap(log_ratio: Tensor, advantages: Tensor, beta: float) -> Tensor:
    """`(beta * log_ratio - A)^2`, whose minimiser is `log_ratio = A / beta`."""
    return (beta * log_ratio - advantages).square()


def strength(log_ratio: Tensor, advantages: Tensor, ref_probability: Tensor) -> Tensor:
    """Weight of the log-ratio in the released code, a constant: at most that which brings it to the advantage.

    Args:
        log_ratio: mean over the tokens of a turn.
        advantages: binarised.
        ref_probability: geometric mean of the reference's probabilities of the turn's tokens.
    """
    good = advantages > 0
    strong = (good & (ref_probability >= SURE)) | (~good & (ref_probability < SURE_BAD))
    weight = 1 + (STRONG - 1) * strong.to(log_ratio.dtype)
    tiny = torch.finfo(log_ratio.dtype).tiny
    return torch.minimum(weight, advantages.abs() / log_ratio.abs().clamp(min=tiny)).detach()


def released_terms(log_ratio: Tensor, advantages: Tensor, ref_probability: Tensor) -> Tensor:
    """`SmoothL1(b * log_ratio, A) / b` of good turns with `strength` b, and 0 of masked ones."""
    good = (advantages > 0).to(log_ratio.dtype)
    weight = strength(log_ratio, advantages, ref_probability)
    weight = good * weight + (1 - good)  # an advantage of 0 has no strength to divide by
    return good * smooth_l1_loss(weight * log_ratio, advantages, reduction="none") / weight


def mean_probability(logprobs: Sequence[float] | Array) -> float:
    """Geometric mean of the probabilities of tokens, the inverse of their perplexity."""
    return exp(fsum(logprobs) / len(logprobs))


def instructive(probability: float, low: float, high: float) -> bool:
    """True of a stored turn whose mean probability by the policy as it stands is above `low` and at most `high`.

    Too likely ones teach nothing, and too surprising ones pull the policy away.
    """
    return low < probability <= high


def within_reach(values: Sequence[float], low: float, high: float) -> bool:
    """True of a task if a head gives its first state a value from `low` to `high`: neither too hard nor too easy."""
    return any(low <= value <= high for value in values)
