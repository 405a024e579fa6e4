"""Pairs of answers: which they are, their weights, and sums over the two sides of each in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.ops.credit import NO_SIGNAL, Episode, by_group, total
from llmrl.samples import Sample


def pairs_of(samples: Sequence[Sample]) -> list[tuple[Episode, Episode]]:
    """The best and the worst episode of each group by reward, the first of equal ones.

    A group whose rewards are equal is no pair; episodes that nobody could judge (reward NaN) are in none.
    """
    pairs = []
    for group in by_group(samples):
        judged = [episode for episode in group if not isnan(total(episode)) and any(row.actions for row in episode)]
        judged.sort(key=lambda episode: episode[0].episode)
        if judged:
            chosen, rejected = max(judged, key=total), min(judged, key=total)
            if total(chosen) - total(rejected) >= NO_SIGNAL:
                pairs.append((chosen, rejected))
    return pairs


def weigh_pairs(pairs: Sequence[tuple[Episode, Episode]]) -> list[Sample]:
    """The samples of the pairs: `advantages` 1 and -1, and `weights` of which each pair's tokens share 1 over P."""
    rows = []
    for chosen, rejected in pairs:
        weight = 1.0 / (len(pairs) * sum(row.actions for row in (*chosen, *rejected)))
        for side, sign in ((chosen, 1.0), (rejected, -1.0)):
            rows += [row.assign(advantages=sign, weights=weight) for row in side if row.actions]
    return rows


def side_sums(numbers: Tensor, batch: Batch) -> Tensor:
    """(P, 2): sums of (B, T) `numbers` over the action tokens of the chosen and the rejected side of each pair.

    It carries the gradient. P is the number of samples, at least that of pairs: the rows behind the last pair are 0. A
    side may take several samples; its sums do not depend on how they are packed. The loss must keep groups together
    (`Update.keep_groups`), and credit comes from `weigh_pairs`.
    """
    place = 2 * _pair(batch) + (batch.advantages < 0).long()
    ours = torch.where(batch.action_mask, numbers, torch.zeros_like(numbers))
    return numbers.new_zeros(2 * batch.samples).index_add(0, place.flatten(), ours.flatten()).view(-1, 2)


def side_means(numbers: Tensor, batch: Batch) -> Tensor:
    """(P, 2): means of (B, T) `numbers` over the action tokens of each side; 0 of a side without any."""
    return side_sums(numbers, batch) / side_sums(torch.ones_like(numbers), batch).clamp(min=1)


def over_tokens(numbers: Tensor, batch: Batch) -> Tensor:
    """(B, T): every token gets its pair's entry of (P,) `numbers`."""
    return numbers[_pair(batch)]


def log_odds(logprobs: Tensor) -> Tensor:
    """`log(p / (1 - p))` of log-probabilities below 0, without the cancellation near 0."""
    near = torch.log(-torch.expm1(logprobs.clamp(max=-1e-7)))
    far = torch.log1p(-torch.exp(logprobs.clamp(max=-1e-7)))
    return logprobs - torch.where(logprobs > -0.6931, near, far)


def _pair(batch: Batch) -> Tensor:
    """(B, T): the number of each token's pair; that of the first sample for padding."""
    return batch.group_ids[batch.sample_ids.clamp(min=0)]
