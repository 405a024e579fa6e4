"""Terms to minimise, one per token and never averaged: the average is in the weights (`llmrl.ops.credit`)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.ops.kl import log_ratio
from llmrl.protocols import Forward

Level = Literal["token", "sequence", "sequence_token", "product"]
"""What a ratio is of: one token; the geometric mean over a row; that mean, its gradient each token's own; the product
over a row."""


def old_logprobs(new: Forward, batch: Batch) -> Tensor:
    """(B, T) log-probabilities by the policy before the step, without gradient.

    They are the batch's. Where a step moves the policy once it goes without that column: the old policy is the new one.
    """
    old: Tensor = batch.get("old_logprobs", new.logprobs.detach())
    return old


def entropy_metric(new: Forward) -> dict[str, Tensor]:
    """Entropy under the name that logs have, where the model gives it."""
    return {"entropy": new.entropy.detach()} if "entropy" in new.columns else {}


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


def clip_metrics(new: Tensor, old: Tensor, advantages: Tensor, low: float, high: float) -> dict[str, Tensor]:
    """`clipped` under the names that logs have."""
    fell, rose = clipped(new, old, advantages, low, high)
    return {"clip_ratio/low_mean": fell, "clip_ratio/high_mean": rose, "clip_ratio/region_mean": fell + rose}


def weighted_logprob(new: Tensor, ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """REINFORCE terms whose importance weight is cut to [low, high] but never their gradient.

    Args:
        new: (B, T) log-probabilities under the policy being trained; carries the gradient.
        ratio: (B, T) importance weights, new over old; taken as a constant.
        advantages: (B, T), a constant.
        low, high: absolute bounds of the weight, not distances from 1.
    Returns:
        (B, T) terms to minimise. Their value says nothing, as log-probabilities are negative; their gradient is
        -weight * advantage for each token.
    Source: CISPO, in MiniMax-M1 (arXiv 2506.13585).
    """
    return -ratio.detach().clamp(low, high) * advantages * new


def at_level(new: Tensor, old: Tensor, batch: Batch, level: Level) -> tuple[Tensor, Tensor]:
    """(B, T) new and old log-probabilities whose difference is the log-ratio of a token, or the mean or sum of its row.

    "sequence" and "sequence_token" have the same value, and the same gradient where advantage and weight are equal over
    the row. The first sends each token's gradient to all tokens of the row, the second to the token itself, as
    advantages that differ from token to token need. With "product" each token has the whole row's term.
    Source: GSPO and GSPO-token (arXiv 2507.18071).
    """
    if level == "token":
        return new, old
    if level == "product":
        return sequence_sum(new, batch), sequence_sum(old, batch)
    mean, mean_old = sequence_mean(new, batch), sequence_mean(old, batch)
    return (mean, mean_old) if level == "sequence" else (mean.detach() + new - new.detach(), mean_old)


def clipped_squares(new: Tensor, old: Tensor, targets: Tensor, cliprange: float) -> Tensor:
    """(B, T) half the squared errors of a critic whose gain stops once it has moved `cliprange` from its old number.

    Args:
        new: (B, T) the critic's numbers; carries the gradient.
        old: (B, T) the same before this step; a constant.
        targets: (B, T) a constant.
        cliprange: in units of return, at least 0.
    Source: the value loss of Schulman et al. 2017 as in OpenAI's baselines; not in the paper.
    """
    near = old + torch.clamp(new - old, -cliprange, cliprange)
    return 0.5 * torch.maximum((new - targets).square(), (near - targets).square())


def sequence_mean(numbers: Tensor, batch: Batch) -> Tensor:
    """(B, T): every token gets the mean of (B, T) `numbers` over the action tokens of its sample; carries the gradient.

    Sums by `sample_ids`, so packed and padded rows agree.
    """
    count = sequence_sum(torch.ones_like(numbers), batch)
    return sequence_sum(numbers, batch) / count.clamp(min=1)


def sequence_sum(numbers: Tensor, batch: Batch) -> Tensor:
    """(B, T): every token gets the sum of (B, T) `numbers` over the action tokens of its sample; carries the gradient.

    Sums by `sample_ids`, so packed and padded rows agree.
    """
    return sample_sums(numbers, batch)[batch.sample_ids.clamp(min=0)]


def sample_sums(numbers: Tensor, batch: Batch) -> Tensor:
    """(samples,) sums of (B, T) `numbers` over the action tokens of each sample; carries the gradient."""
    owner = batch.sample_ids.clamp(min=0).flatten()
    ours = torch.where(batch.action_mask, numbers, torch.zeros_like(numbers)).flatten()
    return numbers.new_zeros(batch.samples).index_add(0, owner, ours)


def following(numbers: Tensor, after: Tensor, batch: Batch) -> Tensor:
    """(B, T) number of the state in which the next action is taken; carries the gradient.

    Args:
        numbers: (B, T) of the state before each token.
        after: (B, T) of the state after each token, for the last action of a sample, which has no next one.
    """
    actions = batch.action_mask.flatten().nonzero().squeeze(-1)
    owner = batch.sample_ids.flatten()[actions]
    here = actions[:-1][owner[1:] == owner[:-1]]
    there = actions[1:][owner[1:] == owner[:-1]]
    return after.flatten().index_put((here,), numbers.flatten()[there]).view_as(after)
