"""Behaviour cloning: stored answers are imitated, all alike, in proportion to their reward, or the good ones alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmrl.batch import Batch
from llmrl.ops.credit import Over, average
from llmrl.ops.losses import entropy_metric
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.samples import Sample


@dataclass(frozen=True)
class BC:
    """Maximises `sum over answers of weight * log pi(answer) / N`; the baselines of offline RL (docs/algorithms/bc.md).

    It learns as well from answers that were just generated: with `filtered`, that is rejection sampling.
    """

    weights: Literal["none", "reward", "filtered"] = "none"
    min_reward: float = 0.0  # with `filtered`: answers above it are kept
    over: Over = "sequence_sum"  # what an answer's tokens share: the sum of their terms, or with `sequence` their mean
    minibatches: int = 1  # optimiser steps of a loop step

    def __post_init__(self) -> None:
        if self.over == "constant":
            raise ValueError("over constant: expected token, sequence or sequence_sum")
        if self.minibatches < 1:
            raise ValueError(f"minibatches {self.minibatches}: expected at least 1")

    def needs(self) -> frozenset[Column]:
        return frozenset()

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Weigh each answer; one that was not scored, or that the filter refuses, leaves the mean, too."""
        kept = [row for row in samples if row.reward == row.reward and self._keeps(row.reward)]
        return average([row.assign(advantages=self._weight(row.reward)) for row in kept], self.over)

    def updates(self, step: int) -> Sequence[Update]:
        return [Update("policy", self.loss, minibatches=self.minibatches)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Negative log-likelihood of each token, times its answer's weight."""
        nll = -new.logprobs
        return Loss(batch.advantages * nll, metrics={"nll": nll.detach(), **entropy_metric(new)})

    def metrics(self, rows: Sequence[Sample]) -> Mapping[str, float]:
        """Number of answers that are learned from."""
        return {"bc/answers": float(len({(row.group, row.episode) for row in rows}))}

    def _keeps(self, reward: float) -> bool:
        return self.weights != "filtered" or reward > self.min_reward

    def _weight(self, reward: float) -> float:
        return reward if self.weights == "reward" else 1.0


plugin = BC
