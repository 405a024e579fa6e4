"""Estimators of the divergence between two policies, from tokens that the first of them sampled.

Which may stand where (Schulman 2020, "Approximating KL divergence", and its gradients):

|  | k1 | k2 | k3 |
|---|---|---|---|
| detached, in the reward | exact: the gradient of KL(new, ref) | biased | biased |
| in the loss, with gradient | expected gradient 0: only noise | gradient of KL(new, ref) | gradient of KL(ref, new) |
"""

from __future__ import annotations

import torch
from torch import Tensor

LIMIT = 20.0
"""Differences of log-probabilities are cut to +-LIMIT before exp, which keeps every term finite; a cut token has no
gradient."""


def log_ratio(new: Tensor, old: Tensor) -> Tensor:
    """`new - old`, cut to +-LIMIT."""
    return torch.clamp(new - old, -LIMIT, LIMIT)


def k1(new: Tensor, ref: Tensor) -> Tensor:
    """(B, T) `log(new / ref)`: unbiased, and negative for half the tokens or so. For the reward only."""
    return log_ratio(new, ref)


def k2(new: Tensor, ref: Tensor) -> Tensor:
    """(B, T) half the squared log-ratio, at least 0; in a loss its expected gradient is that of KL(new, ref)."""
    return 0.5 * log_ratio(new, ref).square()


def k3(new: Tensor, ref: Tensor) -> Tensor:
    """(B, T) `ref/new - 1 - log(ref/new)`: unbiased, at least 0.

    In a loss its expected gradient is that of KL(ref, new), not of KL(new, ref), of which it is the value.
    Source: DeepSeekMath (arXiv 2402.03300), eq. 4.
    """
    distance = log_ratio(new, ref)
    return torch.expm1(-distance) + distance
