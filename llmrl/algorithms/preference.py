"""Preference optimisation by options: DPO, conservative and robust DPO, hinge, IPO, SimPO, ORPO, CPL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmrl.ops.credit import refuse_single_answers, total
from llmrl.ops.pairs import log_odds, over_tokens, pairs_of, side_means, side_sums, weigh_pairs
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.recipe.ranges import Amount
from llmrl.samples import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch

LossType = Literal["sigmoid", "robust", "hinge", "ipo", "simpo", "orpo", "cpl"]
NEVER_A_REFERENCE = ("simpo", "orpo")
MEANS = ("ipo", "simpo", "orpo")  # of log-probabilities over an answer, where the others sum
MARGINS = ("sigmoid", "robust", "hinge")


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Makes the better of two answers likelier than the worse (docs/algorithms/preference.md).

    A group with rewards is a pair: its best answer against its worst. So it learns from stored pairs, whose answers
    have rewards 1 and 0, and from answers that were just generated.
    """

    loss_type: LossType = "sigmoid"  # sigmoid is DPO (arXiv 2305.18290), with label_smoothing cDPO
    beta: float = 0.1  # what log-ratios count; tau of IPO, weight of ORPO's odds, alpha of CPL. SimPO took 2.0
    label_smoothing: float = 0.0  # chance that a label is wrong; robust (arXiv 2403.00409) undoes its bias
    reference_free: bool | None = None  # None: true for simpo, orpo and cpl. False for cpl is CPL-KL
    advantage_margin: float = 0.0  # what the gap of the two rewards adds to the margin; alpha of Step-APO, 1.0
    simpo_gamma: Amount = 0.5  # margin of simpo (arXiv 2405.14734), in units of beta times log-probability
    conservatism: float = 0.5  # of cpl: what the worse answer counts (arXiv 2310.13639); lambda, above 0, at most 1
    gamma: float = 1.0  # of cpl: discount of a turn
    nll_coef: Amount | None = None  # weight of the mean negative log-likelihood of the better. None: 1 for orpo, else 0
    num_iterations: int = 1  # passes over a step's samples
    minibatches: int = 1  # optimiser steps in a pass

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta {self.beta}: expected above 0")
        most = 0.5 if self.loss_type == "robust" else 1.0
        if not 0 <= self.label_smoothing < most:
            raise ValueError(f"label_smoothing {self.label_smoothing}: expected at least 0 and below {most}")
        if self.label_smoothing and self.loss_type in ("hinge", "ipo", "orpo"):
            raise ValueError(f"label_smoothing: {self.loss_type} has none; expected 0, or sigmoid, robust, simpo, cpl")
        if self.reference_free is False and self.loss_type in NEVER_A_REFERENCE:
            raise ValueError(f"reference_free false: {self.loss_type} has no reference; expected null or true")
        if self.advantage_margin and self.loss_type not in MARGINS:
            raise ValueError(f"advantage_margin: expected loss_type {', '.join(MARGINS)}, or 0; not {self.loss_type}")
        if not 0 < self.conservatism <= 1:
            raise ValueError(f"conservatism {self.conservatism}: expected above 0 and at most 1")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma {self.gamma}: expected from 0 to 1")
        if self.gamma != 1 and self.loss_type != "cpl":
            raise ValueError(f"gamma {self.gamma}: only cpl discounts turns; expected 1")
        if self.num_iterations < 1 or self.minibatches < 1:
            raise ValueError("num_iterations and minibatches must be at least 1")

    @property
    def least_generations(self) -> int:
        """Episodes that a group needs: a better and a worse one."""
        return 2

    @property
    def without_reference(self) -> bool:
        """`reference_free`, where none means by loss."""
        return self.loss_type in (*NEVER_A_REFERENCE, "cpl") if self.reference_free is None else self.reference_free

    @property
    def imitation(self) -> float:
        """`nll_coef`, where none means by loss."""
        return (1.0 if self.loss_type == "orpo" else 0.0) if self.nll_coef is None else self.nll_coef

    def needs(self) -> frozenset[Column]:
        """The reference, unless the loss goes without."""
        return frozenset() if self.without_reference else frozenset({"ref_logprobs"})

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """The best and the worst episode of each group: `advantages` 1 and -1, and their gap of rewards as `returns`.

        A pair's tokens share a weight of 1 over the number of pairs. Episodes that nobody could judge (reward NaN) are
        left out; a group whose rewards are equal is no pair.

        Raises:
            RecipeError: no group has two episodes.
        """
        refuse_single_answers(samples, "preference")
        pairs = pairs_of(samples)
        gaps = {chosen[0].group: total(chosen) - total(rejected) for chosen, rejected in pairs}
        return [row.assign(returns=gaps[row.group]) for row in weigh_pairs(pairs)]

    def metrics(self, rows: Sequence[Sample]) -> dict[str, float]:
        """Number of pairs of the step."""
        return {"pairs": float(len({row.group for row in rows}))}

    def updates(self, step: int) -> Sequence[Update]:
        """The single update; the samples of a pair stay in one micro-batch."""
        return [Update("policy", self.loss, self.num_iterations, self.minibatches, keep_groups=True)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Every token of a pair has the pair's loss, of the scores of its two sides."""
        ratios = new.logprobs if self.without_reference else new.logprobs - batch.ref_logprobs
        if self.gamma != 1:
            ratios = ratios * self.gamma ** batch.turn_ids.clamp(min=0).to(ratios.dtype)
        scored = (side_means if self.loss_type in MEANS else side_sums)(ratios, batch)
        chosen, rejected = scored.where(side_sums(_ones(ratios), batch) > 0, -_ones(scored)).unbind(1)
        margin = self.advantage_margin * side_means(batch.returns, batch)[:, 0]
        terms = LOSSES[self.loss_type](self, chosen, rejected, margin)
        if self.imitation:
            terms = terms - self.imitation * side_means(new.logprobs, batch)[:, 0]
        logprobs = side_sums(new.logprobs.detach(), batch)
        seen = {
            "rewards/chosen": self.beta * chosen,
            "rewards/rejected": self.beta * rejected,
            "rewards/margins": self.beta * (chosen - rejected),
            "rewards/accuracies": (chosen > rejected).to(terms.dtype),
            "logps/chosen": logprobs[:, 0],
            "logps/rejected": logprobs[:, 1],
        }
        means = {name: over_tokens(numbers.detach(), batch) for name, numbers in seen.items()}
        return Loss(over_tokens(terms, batch), means=means)


def _ones(numbers: Tensor) -> Tensor:
    return numbers.new_ones(()).expand_as(numbers)


# Losses of pairs, from the (P,) scores of their sides: log-ratios, or log-probabilities where there is no reference


def _logistic(options: Preference, margin: Tensor, flipped: Tensor) -> Tensor:
    """Cross-entropy of a preference by `margin`, whose label is wrong with chance `label_smoothing`."""
    from torch.nn.functional import softplus

    return (1 - options.label_smoothing) * softplus(-margin) + options.label_smoothing * softplus(-flipped)


def _sigmoid(options: Preference, chosen: Tensor, rejected: Tensor, gap: Tensor) -> Tensor:
    margin = options.beta * (chosen - rejected) - gap
    return _logistic(options, margin, -margin)


def _robust(options: Preference, chosen: Tensor, rejected: Tensor, gap: Tensor) -> Tensor:
    from torch.nn.functional import softplus

    margin, wrong = options.beta * (chosen - rejected) - gap, options.label_smoothing
    return ((1 - wrong) * softplus(-margin) - wrong * softplus(margin)) / (1 - 2 * wrong)


def _hinge(options: Preference, chosen: Tensor, rejected: Tensor, gap: Tensor) -> Tensor:
    return (1 - options.beta * (chosen - rejected) + gap).clamp(min=0)


def _ipo(options: Preference, chosen: Tensor, rejected: Tensor, _gap: Tensor) -> Tensor:
    """arXiv 2310.12036, eq. 17, of means over the answers, as its authors used it."""
    return (chosen - rejected - 1 / (2 * options.beta)).square()


def _simpo(options: Preference, chosen: Tensor, rejected: Tensor, _gap: Tensor) -> Tensor:
    margin = options.beta * (chosen - rejected) - options.simpo_gamma
    return _logistic(options, margin, -margin)


def _orpo(options: Preference, chosen: Tensor, rejected: Tensor, _gap: Tensor) -> Tensor:
    """arXiv 2403.07691, eq. 7; the likelihood of the better answer, its first term, is `nll_coef`."""
    from torch.nn.functional import softplus

    return options.beta * softplus(log_odds(rejected) - log_odds(chosen))


def _cpl(options: Preference, chosen: Tensor, rejected: Tensor, _gap: Tensor) -> Tensor:
    """arXiv 2310.13639, eq. 5 and 6: the worse side counts by `conservatism`."""
    right = options.beta * (chosen - options.conservatism * rejected)
    wrong = options.beta * (rejected - options.conservatism * chosen)
    return _logistic(options, right, wrong)


LOSSES: Mapping[LossType, Callable[[Preference, Tensor, Tensor, Tensor], Tensor]] = {
    "sigmoid": _sigmoid,
    "robust": _robust,
    "hinge": _hinge,
    "ipo": _ipo,
    "simpo": _simpo,
    "orpo": _orpo,
    "cpl": _cpl,
}

plugin = Preference
