"""Terms to minimise, one per token and never averaged: the average is in the weights (`llmrl.ops.credit`)."""

from __future__ import annotations

import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.ops.kl import log_ratio


def clipped_surrogate(
    new: Tensor, old: Tensor, advantages: Tensor, low: float, high: float, delta: float | None = None
) -> Tensor:
    """Policy-gradient terms whose gain stops once the ratio leaves [1 - low, 1 + high].

    Args:
        new: (B, T) log-probabilities under the policy being trained; carries the gradient.
        old: (B, T) the same before this step; a constant.
        advantages: (B, T) how much better than expected each token was; a constant.
        low, high: how far the ratio may fall and rise, at least 0.
        delta: what the ratio counts as at most, above 1 + high. Without it a token with a negative advantage and a
            ratio of 50 outweighs all others; with it such a token has a bounded term and no gradient. None: no bound.
    Returns:
        (B, T) terms to minimise, not averaged; finite but meaningless at non-action tokens, which weigh 0.
    Source: Schulman et al. 2017 (arXiv 1707.06347), eq. 7, with separate bounds (arXiv 2503.14476); `delta` is the dual
        clip of Ye et al. 2020 (arXiv 1912.09729), eq. 4.
    """
    ratio = torch.exp(log_ratio(new, old))
    bounded = ratio if delta is None else torch.clamp(ratio, max=delta)
    return -torch.minimum(bounded * advantages, torch.clamp(ratio, 1 - low, 1 + high) * advantages)


def clipped(new: Tensor, old: Tensor, advantages: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """(B, T) 1.0 where `clipped_surrogate` stopped a fall below 1 - low, and where it stopped a rise above 1 + high."""
    ratio = torch.exp(log_ratio(new.detach(), old))
    fell = (ratio < 1 - low) & (advantages < 0)
    rose = (ratio > 1 + high) & (advantages > 0)
    return fell.to(ratio.dtype), rose.to(ratio.dtype)


def sequence_mean(numbers: Tensor, batch: Batch) -> Tensor:
    """(B, T): every token gets the mean of (B, T) `numbers` over the action tokens of its sample; carries the gradient.

    Sums by `sample_ids`, so packed and padded rows agree.
    """
    owner = batch.sample_ids.clamp(min=0).flatten()
    mask = batch.action_mask.to(numbers.dtype)
    total = numbers.new_zeros(batch.samples).index_add(0, owner, (numbers * mask).flatten())
    count = numbers.new_zeros(batch.samples).index_add(0, owner, mask.flatten())
    return (total / count.clamp(min=1))[owner].view_as(numbers)
