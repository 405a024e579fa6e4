"""Losses over pairs and whole answers: numbers of samples in a batch, and the token at which such a term counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmrl.batch import CHOSEN, REJECTED, Batch
from llmrl.ops.credit import by_group
from llmrl.samples import Sample


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of a batch, for a loss that compares the two answers of each (`Update.keep_groups`).

    pairs = Pairs.of(batch)
    gap = pairs.gap(sample_sums(new.logprobs, batch) - batch.number("ref_logprob"))  # (P,)
    return Loss(pairs.on_tokens(-logsigmoid(beta * gap), new.logprobs))
    """

    chosen: Tensor  # (P,) numbers of samples
    rejected: Tensor  # (P,)
    batch: Batch

    @classmethod
    def of(cls, batch: Batch) -> Pairs:
        """Every group of the batch with a chosen and a rejected sample; P may be 0 on a rank without work."""
        chosen, rejected = ((batch.roles == role).nonzero()[:, 0] for role in (CHOSEN, REJECTED))
        same = batch.group_ids[chosen][:, None] == batch.group_ids[rejected][None]
        which = same.nonzero()
        return cls(chosen[which[:, 0]], rejected[which[:, 1]], batch)

    def gap(self, numbers: Tensor) -> Tensor:
        """(P,) the chosen sample's number less the rejected one's, of (samples,) numbers."""
        return numbers[self.chosen] - numbers[self.rejected]

    def of_chosen(self, numbers: Tensor) -> Tensor:
        """(P,) of (samples,) numbers that both samples of a pair have, such as a margin."""
        return numbers[self.chosen]

    def on_tokens(self, terms: Tensor, like: Tensor) -> Tensor:
        """(B, T): each pair's term at the tokens of its chosen sample, 0 elsewhere.

        Args:
            terms: (P,) to minimise, or to log.
            like: (B, T) what the model gave; without a pair the result hangs on it still, as collective passes need.
        """
        of_samples = torch.zeros(self.batch.samples, dtype=like.dtype, device=like.device)
        return on_tokens(of_samples.index_put((self.chosen,), terms.to(like.dtype)), self.batch) + 0.0 * like


def on_tokens(numbers: Tensor, batch: Batch) -> Tensor:
    """(B, T): every token gets the number of its sample, of (samples,) numbers; 0 at padding."""
    spread = numbers[batch.sample_ids.clamp(min=0)]
    return torch.where(batch.sample_ids >= 0, spread, torch.zeros_like(spread))


def complete_pairs(rows: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """(chosen, rejected) of each group that has one of each; others teach nothing about a preference."""
    pairs = []
    for group in by_group(rows):
        sides = {sample.role: sample for episode in group for sample in episode}
        if "chosen" in sides and "rejected" in sides:
            pairs.append((sides["chosen"], sides["rejected"]))
    return pairs


def weigh_pairs(pairs: Sequence[tuple[Sample, Sample]]) -> list[Sample]:
    """The samples of the pairs, weighed so that each pair's term, at its chosen sample, counts 1/P."""
    share = 1.0 / max(1, len(pairs))
    return [sample for chosen, rejected in pairs for sample in (once(chosen, share), once(rejected, 0.0))]


def once(row: Sample, weight: float) -> Sample:
    """The sample with `weight` at its first action token and 0 elsewhere: a term of the whole answer counts once."""
    weights = np.zeros(len(row.token_ids))
    weights[np.flatnonzero(row.action_mask)[:1]] = weight
    return row.assign(weights=weights)


def total_logprob(row: Sample, column: str) -> float:
    """Log-probability of the whole answer: the sum of a column (`ref_logprobs`, say) over its action tokens."""
    numbers = getattr(row, column)[row.action_mask]
    return float(numbers.sum(dtype=np.float64))
