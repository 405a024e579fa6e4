"""PRO: a ranking of several answers, each made likelier than all that are worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from llmrl.ops.credit import refuse_single_answers
from llmrl.ops.pairs import over_tokens
from llmrl.ops.rankings import REWARD, listwise, rank_sums, rankings_of, weigh_rankings
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.samples import Sample

if TYPE_CHECKING:
    from llmrl.batch import Batch


@dataclass(frozen=True, kw_only=True)
class PRO:
    """Preference ranking optimisation (arXiv 2306.17492): no reference and no critic (docs/algorithms/pro.md)."""

    nll_coef: float = 0.05  # weight of the best answer's negative log-likelihood, times (answers - 1) squared
    num_iterations: int = 1  # passes over a step's samples
    minibatches: int = 1  # optimiser steps in a pass

    def __post_init__(self) -> None:
        if not self.nll_coef >= 0:
            raise ValueError(f"nll_coef {self.nll_coef}: expected at least 0")
        if self.num_iterations < 1 or self.minibatches < 1:
            raise ValueError("num_iterations and minibatches must be at least 1")

    @property
    def least_generations(self) -> int:
        """Episodes that a group needs: a better and a worse one."""
        return 2

    def needs(self) -> frozenset[Column]:
        return frozenset()

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Rank the episodes of each group by reward; rankings weigh alike, however long.

        Raises:
            RecipeError: no group has two episodes.
        """
        refuse_single_answers(samples, "pro")
        return weigh_rankings(rankings_of(samples))

    def metrics(self, rows: Sequence[Sample]) -> Mapping[str, float]:
        """Rankings of the step, and answers in them."""
        groups, answers = {row.group for row in rows}, {(row.group, row.episode) for row in rows}
        return {"pro/rankings": float(len(groups)), "pro/answers": float(len(answers))}

    def updates(self, step: int) -> Sequence[Update]:
        """The single update; the samples of a ranking stay in one micro-batch."""
        return [Update("policy", self.loss, self.num_iterations, self.minibatches, keep_groups=True)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Every token of a ranking has the ranking's loss, of the mean log-probabilities of its answers."""
        sums, lengths = rank_sums(new.logprobs, batch), rank_sums(torch.ones_like(new.logprobs), batch)
        present, scores = lengths > 0, sums / lengths.clamp(min=1)
        rewards = rank_sums(batch.number(REWARD)[batch.sample_ids.clamp(min=0)], batch) / lengths.clamp(min=1)
        ranking = listwise(scores, rewards, present).sum(1)
        nll = (present.sum(1) - 1).clamp(min=0).square() * -sums[:, 0]
        apart = present[:, 1:] & (rewards[:, :-1] > rewards[:, 1:])
        right = (apart & (scores[:, :-1] > scores[:, 1:])).sum(1) / apart.sum(1).clamp(min=1)
        seen = {
            "pro/ranking": ranking,
            "rewards/accuracies": right.to(ranking.dtype),
            "logps/best": sums[:, 0],
        }
        means = {name: over_tokens(numbers.detach(), batch) for name, numbers in seen.items()}
        return Loss(over_tokens(ranking + self.nll_coef * nll, batch), means=means)


plugin = PRO
