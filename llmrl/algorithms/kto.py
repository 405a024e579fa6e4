"""KTO: answers that are each good or bad, against a reference point; no pairs are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, isnan
from typing import TYPE_CHECKING, Literal

import numpy as np

from llmrl.errors import RecipeError
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.samples import Sample, prompt_length

if TYPE_CHECKING:
    from llmrl.batch import Batch

POINT = "reference_point"
"""Name of the number that is z of a step: an estimate of KL(policy, reference) in nats, at least 0."""


@dataclass(frozen=True, kw_only=True)
class KTO:
    """Makes good answers likelier and bad ones less likely, each by a saturating value (docs/algorithms/kto.md)."""

    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"  # the second has no reference point (arXiv 2408.06266)
    beta: float = 0.1  # what log-ratios count
    desirable_weight: float = 1.0  # of a good answer; lambda_D
    undesirable_weight: float = 1.0  # of a bad answer; lambda_U
    desirable_above: float = 0.0  # answers with a reward above it are good, where neither role nor verdict says so
    minibatches: int = 1  # optimiser steps of a loop step

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta {self.beta}: expected above 0")
        if not (self.desirable_weight >= 0 and self.undesirable_weight >= 0):
            raise ValueError(
                f"desirable_weight {self.desirable_weight}, undesirable_weight {self.undesirable_weight}: expected at "
                "least 0"
            )
        if self.minibatches < 1:
            raise ValueError(f"minibatches {self.minibatches}: expected at least 1")

    @property
    def least_problems(self) -> int:
        """Problems that a step needs: the reference point puts answers behind the prompt of another."""
        return 2 if self.loss_type == "kto" else 1

    def needs(self) -> frozenset[Column]:
        """The reference, and the policy before the step, which the reference point is made of."""
        return frozenset({"ref_logprobs", "old_logprobs"} if self.loss_type == "kto" else {"ref_logprobs"})

    def compared(self, samples: Sequence[Sample]) -> list[Sample]:
        """Each answer behind the prompt of the next problem: by these the reference point is estimated.

        Raises:
            RecipeError: the step has a single problem.
        """
        if self.loss_type != "kto" or not samples:
            return []
        ordered = sorted((row for row in samples if row.actions), key=lambda row: (row.group, row.episode))
        pairs = [(row, _next_problem(ordered, i)) for i, row in enumerate(ordered)]
        if any(other is None for _, other in pairs):
            raise RecipeError(
                "algorithm kto: the step has answers to a single problem, and its reference point puts answers behind "
                "other problems; expected rollout.prompts_per_step of at least 2, or loss_type: apo_zero_unpaired"
            )
        return [_mismatched(row, other) for row, other in pairs if other is not None]

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """`advantages` are plus or minus an answer's weight; every answer counts 1/N, and has the reference point.

        Raises:
            RecipeError: there are no mismatched answers to estimate the reference point by, nor a stored one.
        """
        own = [row for row in samples if row.role != "mismatched" and not isnan(row.reward) and row.actions]
        point = self._reference_point(samples)
        rows = []
        for row in own:
            worth = self.desirable_weight if self._is_good(row) else -self.undesirable_weight
            weight = 1.0 / (len(own) * row.actions)
            rows.append(row.assign(advantages=worth, weights=weight).with_numbers(**{POINT: point}))
        return [row for row in rows if np.any(row.advantages)]

    def updates(self, step: int) -> Sequence[Update]:
        return [Update("policy", self.loss, minibatches=self.minibatches)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Shortfall of each answer's value from 1 (arXiv 2402.01306, eq. 7 and 8), times its weight."""
        import torch

        from llmrl.ops.losses import sequence_sum

        point = batch.number(POINT)[batch.sample_ids.clamp(min=0)]
        ratio = sequence_sum(new.logprobs - batch.ref_logprobs, batch)
        value = torch.sigmoid(torch.sign(batch.advantages) * self.beta * (ratio - point))
        terms = batch.advantages.abs() * (1 - value)
        return Loss(terms, means={"rewards/mean": self.beta * ratio.detach()})

    def metrics(self, rows: Sequence[Sample]) -> Mapping[str, float]:
        """Reference point, balance of good and bad, and rewards before the step's updates by kind of answer."""
        metrics = {"kto/answers": float(len(rows))}
        if self.loss_type != "kto" or not rows:
            return metrics
        metrics["kto/reference_point"] = rows[0].numbers[POINT]
        worths = [float(row.advantages[row.action_mask][0]) for row in rows]
        bad = -fsum(worth for worth in worths if worth < 0)
        if bad:
            metrics["kto/balance"] = fsum(worth for worth in worths if worth > 0) / bad
        for name, good in (("chosen", True), ("rejected", False)):
            ratios = [self.beta * _log_ratio(row) for row in rows if (row.advantages.max() > 0) == good]
            if ratios:
                metrics[f"rewards/{name}"] = fsum(ratios) / len(ratios)
        return metrics

    def _is_good(self, row: Sample) -> bool:
        if row.role is not None:
            return row.role == "chosen"
        return row.reward > self.desirable_above if row.correct is None else row.correct

    def _reference_point(self, samples: Sequence[Sample]) -> float:
        """z of the step."""
        if self.loss_type != "kto" or not samples:
            return 0.0
        ratios = [_log_ratio(row) for row in samples if row.role == "mismatched"]
        if ratios:
            return max(0.0, fsum(ratios) / len(ratios))
        if POINT in samples[0].numbers:
            return samples[0].numbers[POINT]
        raise RecipeError(
            "algorithm kto: no mismatched answers to estimate the reference point by; compared() makes them, and the "
            "models must annotate them with the step's samples"
        )


def _log_ratio(row: Sample) -> float:
    """Log-probability of the answer by the policy before the step, less that by the reference."""
    apart = np.subtract(row.old_logprobs, row.ref_logprobs, dtype=np.float64)
    return float(apart[row.action_mask].sum())


def _next_problem(ordered: Sequence[Sample], i: int) -> Sample | None:
    """The next sample that belongs to another problem, from the start again behind the last."""
    others = (ordered[(i + k) % len(ordered)] for k in range(1, len(ordered)))
    return next((other for other in others if other.group != ordered[i].group), None)


def _mismatched(row: Sample, other: Sample) -> Sample:
    """The answer of `row`, from its first action on, behind the prompt of `other`."""
    start, end = prompt_length(row), prompt_length(other)
    columns = {
        name: np.concatenate([other.columns[name][:end], row.columns[name][start:]])
        for name in ("token_ids", "turn_ids")
    }
    return replace(row, role="mismatched", support_ids=None, columns=columns)


plugin = KTO
