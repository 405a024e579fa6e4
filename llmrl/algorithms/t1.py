"""T1: many answers per problem, an entropy bonus under control, and a reference that follows the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import TYPE_CHECKING, Literal

from llmrl.ops.credit import Episode, by_group, has_credit, leave_one_out, penalised, token_weights
from llmrl.ops.kl import k1, k2, k3
from llmrl.ops.losses import clip_metrics, clipped_surrogate, old_logprobs
from llmrl.ops.mismatch import require_scaled
from llmrl.ops.ratio_options import Repeated
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.recipe.ranges import Amount, Whole
from llmrl.samples import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch

Chosen = tuple[Sample, float, float]
"""A row, its advantage, and how much its terms count."""


@dataclass(frozen=True, kw_only=True)
class T1(Repeated):
    """Exploration kept alive (arXiv 2501.11651): leave-one-out over all answers, and a loss that pays for entropy.

    The rest of the method is in other sections of a recipe: a high `rollout.temperature`, the reward `degenerate`,
    which punishes what exploration produces, and a reference that moves (`model.sync_ref_model`).
    """

    train_k: int | None = None  # answers of a group that are learned from; the advantages come from all. None: all
    reweight_subset: bool = True  # those of a side weigh by its share of the group over its share of the chosen
    entropy_coef: float = 1e-3  # bonus for a nat of entropy
    entropy_control: Literal["guard", "adaptive", "none"] = "guard"  # of that coefficient
    entropy_guard: float = 1.5  # times the starting entropy; above it for so many steps the coefficient is halved
    entropy_guard_steps: int = 10
    entropy_coef_step: float = 0.005  # adaptive: up below the starting entropy, down above it, where there is no bonus
    entropy_coef_max: float = (
        0.05  # adaptive: no further up; against a target that learning cannot keep it would run away
    )
    beta: float = 1e-3  # weight of the divergence from the reference; 0 needs none
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"  # k1 is taken off the reward; k2 and k3 stand in the loss
    starting_entropy: Amount | None = None  # nats; None: that of the first step
    steps_above: Whole = 0  # state of the guard
    bonus_is_paid: bool = True  # state of the adaptive control

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_k is not None and self.train_k < 2:
            raise ValueError(f"train_k {self.train_k}: expected at least 2, one answer of each side")
        if min(self.entropy_coef, self.entropy_coef_step, self.entropy_coef_max, self.beta) < 0:
            raise ValueError("entropy_coef, its step and maximum, and beta must be at least 0")
        if self.entropy_guard <= 1 or self.entropy_guard_steps < 1:
            raise ValueError("entropy_guard must be above 1, entropy_guard_steps at least 1")

    @property
    def least_generations(self) -> int:
        """Episodes that a group needs: those that are learned from, each compared with the others."""
        return self.train_k or 2

    @property
    def bonus(self) -> float:
        """Coefficient of the entropy, per nat, in the coming step."""
        return self.entropy_coef if self.bonus_is_paid else 0.0

    @property
    def kl_in_loss(self) -> bool:
        return self.beta > 0 and self.kl_estimator != "k1"

    def needs(self) -> frozenset[Column]:
        """The reference where beta is not 0; the policy before the step for k1, and if a step moves it twice."""
        columns: set[Column] = {"ref_logprobs"} if self.beta else set()
        if self.repeats or (self.beta and not self.kl_in_loss):
            columns.add("old_logprobs")
        return frozenset(columns)

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Advantages over all answers, then the answers that are learned from; each of their tokens weighs 1/N.

        N counts the tokens of the chosen answers. Rows without credit are dropped once the weights are set, unless the
        entropy or the divergence of all of them matters.

        Raises:
            RecipeError: the engine's log-probabilities cannot be compared with a trainer's.
        """
        if self.importance_sampling_correction != "none":
            require_scaled(samples)
        chosen = [row for group in by_group(samples) for row in self._chosen(group)]
        weights = token_weights([row for row, _, _ in chosen], "token")
        rows = [
            row.assign(advantages=advantage, weights=factor * weight)
            for (row, advantage, factor), weight in zip(chosen, weights, strict=True)
        ]
        watched = self.kl_in_loss or self.entropy_coef > 0 or self.entropy_control == "adaptive"
        return rows if watched else [row for row in rows if has_credit(row)]

    def updates(self, step: int) -> Sequence[Update]:
        """The single update: the policy learns from `loss`."""
        grad = self.bonus > 0
        return [Update("policy", self.loss, self.num_iterations, self.minibatches, entropy_grad=grad)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Clipped surrogate, times the engine's correction, less the entropy bonus; plus k2 or k3."""
        old = old_logprobs(new, batch)
        terms = clipped_surrogate(new.logprobs, old, batch.advantages, self.epsilon, self.high)
        metrics = clip_metrics(new.logprobs, old, batch.advantages, self.epsilon, self.high)
        terms, seen = self.correction.apply(terms, old, batch)
        metrics |= seen
        if self.beta:
            terms, measured = self._with_kl(terms, new.logprobs, batch.ref_logprobs)
            metrics |= measured
        if "entropy" in new.columns:
            metrics["entropy"] = new.entropy
            metrics["entropy_coef"] = new.entropy.detach() * 0.0 + self.bonus
        if self.bonus:
            terms = terms - self.bonus * new.entropy
        return Loss(terms, {name: values.detach() for name, values in metrics.items()})

    def adapted(self, step: int, metrics: Mapping[str, float]) -> T1:
        """The same with the coefficient for the next step, from the mean entropy of this one.

        Guard: after `entropy_guard_steps` steps in a row above `entropy_guard` times the starting entropy, half of it.
        Adaptive: a step up below the starting entropy, else a step down, from 0 to the largest; paid up to there.
        """
        entropy = metrics.get("entropy")
        if entropy is None or isnan(entropy) or self.entropy_control == "none":
            return self
        if self.starting_entropy is None:
            return replace(self, starting_entropy=entropy)
        if self.entropy_control == "adaptive":
            change = self.entropy_coef_step if entropy < self.starting_entropy else -self.entropy_coef_step
            coefficient = min(self.entropy_coef_max, max(0.0, self.entropy_coef + change))
            return replace(self, entropy_coef=coefficient, bonus_is_paid=entropy <= self.starting_entropy)
        above = self.steps_above + 1 if entropy > self.entropy_guard * self.starting_entropy else 0
        if above < self.entropy_guard_steps:
            return replace(self, steps_above=above)
        return replace(self, steps_above=0, entropy_coef=self.entropy_coef / 2)

    def _with_kl(self, terms: Tensor, new: Tensor, ref: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.kl_in_loss:
            terms = terms + self.beta * (k2 if self.kl_estimator == "k2" else k3)(new, ref)
        return terms, {"kl": k3(new.detach(), ref), "kl/k1": k1(new.detach(), ref)}

    def _chosen(self, group: Sequence[Episode]) -> list[Chosen]:
        """Rows of the answers that are learned from: as many of each side as there are, by episode, the rest filled."""
        judged = [episode for episode in group if not isnan(episode[0].reward)]
        judged.sort(key=lambda episode: episode[0].episode)
        taken = 0.0 if self.kl_in_loss else self.beta
        advantages = leave_one_out([penalised(episode, taken) for episode in judged])
        sides = [[i for i, advantage in enumerate(advantages) if (advantage > 0) == good] for good in (True, False)]
        picked = sides if self.train_k is None else _balanced(sides, self.train_k)
        chosen: list[Chosen] = []
        count = sum(map(len, picked))
        for side, some in zip(sides, picked, strict=True):
            share = len(side) * count / (len(judged) * len(some)) if some and self.reweight_subset else 1.0
            chosen += [(row, advantages[i], share) for i in some for row in judged[i]]
        return chosen


def _balanced(sides: Sequence[Sequence[int]], count: int) -> list[Sequence[int]]:
    """Up to `count` of two lists: half from the first, the rest from the second, and what one lacks from the other."""
    good, bad = sides
    half = min(len(good), max(count // 2, count - len(bad)))
    return [good[:half], bad[: count - half]]


plugin = T1
