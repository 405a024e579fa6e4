"""Advantage-leftover lunch (A-LoL) and its variants: offline policy gradient with the whole answer as one action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isnan
from typing import TYPE_CHECKING, Literal

import numpy as np

from llmrl.errors import RecipeError
from llmrl.ops.credit import by_group, leave_one_out, refuse_single_answers
from llmrl.ops.kl import log_ratio
from llmrl.ops.losses import entropy_metric, sequence_sum
from llmrl.protocols import Column, Forward, Loss, ModelSpec, Update
from llmrl.samples import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch

Variant = Literal["a_lol", "a_lol_ref_free", "a_lol_seq", "a_lol_kl", "r_lol", "r_lol_kl", "gold"]
Priority = Literal["none", "good_random", "good_priority", "all_priority"]
WITH_REFERENCE = ("a_lol", "a_lol_seq", "a_lol_kl", "r_lol", "r_lol_kl")
BY_REWARD = ("r_lol", "r_lol_kl", "gold")


@dataclass(frozen=True, kw_only=True)
class ALoL:
    """Learns from stored answers that beat what was expected (arXiv 2305.14718; docs/algorithms/a_lol.md)."""

    variant: Variant = "a_lol"
    baseline: Literal["stored", "critic", "attention", "group"] = (
        "stored"  # V: a row's number `value`, a model, siblings
    )
    max_reward: float = 1.0  # of attention: V lies between 0 and this, and so must rewards
    priority: Priority = "good_priority"  # how much answers count: by advantage, or alike
    epsilon: float = 0.9  # importance weights are cut to 1 - epsilon and 1 + epsilon; ppo_clip of the authors
    beta: float = 0.1  # of the variants with kl
    gold_floor: float = 0.1  # of gold: what a token's probability counts at least (arXiv 2009.07839)
    minibatches: int = 1  # optimiser steps of a loop step

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon {self.epsilon}: expected from 0 to 1")
        if not self.beta >= 0:
            raise ValueError(f"beta {self.beta}: expected at least 0")
        if not 0 <= self.gold_floor <= 1:
            raise ValueError(f"gold_floor {self.gold_floor}: expected from 0 to 1")
        if not self.max_reward > 0:
            raise ValueError(f"max_reward {self.max_reward}: expected above 0")
        if self.minibatches < 1:
            raise ValueError(f"minibatches {self.minibatches}: expected at least 1")

    @property
    def least_generations(self) -> int:
        """Answers that a group needs."""
        return 2 if self._baseline == "group" else 1

    @property
    def _baseline(self) -> str:
        """`baseline`, or "none" for the variants that learn from rewards."""
        return "none" if self.variant in BY_REWARD else self.baseline

    @property
    def _learns_value(self) -> bool:
        """True where V is a model that is trained in the run."""
        return self._baseline in ("critic", "attention")

    def models(self) -> Mapping[str, ModelSpec]:
        """The model of V: a whole critic, or a head that attends to the prompt, on the frozen reference."""
        if not self._learns_value:
            return {}
        if self._baseline == "critic":
            return {"critic": ModelSpec()}
        head = {"name": "attention", "high": self.max_reward}
        return {"critic": ModelSpec(trunk="reference", heads={"value": head})}

    def needs(self) -> frozenset[Column]:
        """The reference, where the variant has a ratio or a divergence; the critic, where it is the baseline."""
        columns = {"ref_logprobs"} if self.variant in WITH_REFERENCE else set()
        return frozenset(columns | ({"values"} if self._learns_value else set()))

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Each answer's advantage, not below 0, as `advantages`, and its weight by `priority`.

        An answer that was not scored leaves the mean. One that counts nothing is dropped, but for the critic, whose
        target is the reward at the answer's first token.

        Raises:
            RecipeError: an answer has no `value`, which `baseline: stored` reads; or no group has two answers, which
                `baseline: group` compares.
        """
        if self._baseline == "group":
            refuse_single_answers(samples, "a_lol, baseline group")
        kept = [row for row in samples if not isnan(row.reward) and row.actions]
        gains = [row.reward - value for row, value in zip(kept, self._values(kept), strict=True)]
        shares = priorities(gains, self.priority)
        rows = []
        for row, gain, share in zip(kept, gains, shares, strict=True):
            worth = gain if self.variant in BY_REWARD else max(gain, 0.0)
            rows.append(row.assign(advantages=worth, weights=share).with_numbers(advantage=gain))
        if self._learns_value:
            return [_at_first(row, 1.0 / len(rows)) for row in rows]
        return [row for row in rows if _counts(row)]

    def updates(self, step: int) -> Sequence[Update]:
        """The policy; before it the critic, where that is the baseline."""
        policy = Update("policy", self.loss, minibatches=self.minibatches, rows=_counts)
        critic = Update("critic", self.value_loss, minibatches=self.minibatches)
        return [critic, policy] if self._learns_value else [policy]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Log-likelihood of each token times its answer's advantage and a constant importance weight."""
        weight, metrics = self._importance(new.logprobs.detach(), batch)
        terms = -batch.advantages * weight * new.logprobs
        if self.variant in ("a_lol_kl", "r_lol_kl"):
            terms = terms + self.beta * (new.logprobs - batch.ref_logprobs)
        if "ref_logprobs" in batch.columns:
            metrics["kl/k1"] = new.logprobs.detach() - batch.ref_logprobs
        return Loss(terms, {"nll": -new.logprobs.detach(), **metrics, **entropy_metric(new)})

    def value_loss(self, new: Forward, batch: Batch) -> Loss:
        """The critic head's own loss, against the reward, at the state before the answer."""
        return Loss(new.value_loss(batch.returns), {"values": new.values.detach()})

    def metrics(self, rows: Sequence[Sample]) -> Mapping[str, float]:
        """Answers that are learned from, and advantages before they are cut."""
        gains = [row.numbers["advantage"] for row in rows]
        if not gains:
            return {"a_lol/answers": 0.0}
        learned = [row for row in rows if _counts(row)]
        positive = sum(gain > 0 for gain in gains) / len(gains)
        return {
            "a_lol/answers": float(len(learned)),
            "advantages/mean": fsum(gains) / len(gains),
            "advantages/positive": positive,
        }

    def _values(self, rows: Sequence[Sample]) -> list[float]:
        """V of each answer's problem."""
        if self._baseline == "none":
            return [0.0] * len(rows)
        if self._learns_value:
            return [float(row.values[row.action_mask][0]) for row in rows]
        if self._baseline == "stored":
            return [_stored(row) for row in rows]
        values: dict[tuple[str, int], float] = {}
        for group in by_group(rows):
            rewards = [episode[0].reward for episode in group]
            for episode, reward, gain in zip(group, rewards, leave_one_out(rewards), strict=True):
                values[episode[0].group, episode[0].episode] = reward - gain
        return [values[row.group, row.episode] for row in rows]

    def _importance(self, logprobs: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, T) weights, constants, and the share that was cut."""
        import torch

        if self.variant == "gold":
            return logprobs.exp().clamp(min=self.gold_floor), {}
        if self.variant not in ("a_lol", "a_lol_seq", "r_lol"):
            return torch.ones_like(logprobs), {}
        ratios = log_ratio(logprobs, batch.ref_logprobs)
        if self.variant != "a_lol_seq":
            ratios = log_ratio(sequence_sum(logprobs, batch), sequence_sum(batch.ref_logprobs, batch))
        whole = ratios.exp()
        weight = whole.clamp(1 - self.epsilon, 1 + self.epsilon)
        return weight, {"importance/mean": weight, "importance/clipped": (weight != whole).to(weight.dtype)}


def priorities(gains: Sequence[float], priority: Priority) -> list[float]:
    """Share of each answer in the objective, in all 1: the chance with which the authors draw it.

    Args:
        gains: advantages, or rewards.
        priority: none: alike. good_random: alike, of those above 0. good_priority: in proportion to those above 0.
            all_priority: in proportion to the distance from the lowest, which itself counts nothing.
    """
    given = np.asarray(gains, np.float64)
    least = float(given.min(initial=0.0)) if priority == "all_priority" else 0.0
    raw = {
        "none": np.ones_like(given),
        "good_random": (given > 0).astype(np.float64),
        "good_priority": given.clip(min=0.0),
        "all_priority": given - least,
    }[priority]
    total = float(raw.sum())
    shares: list[float] = (raw / total if total > 0 else raw).tolist()
    return shares


def _counts(row: Sample) -> bool:
    """True if the policy learns from the answer."""
    return float(row.weights.max()) > 0.0


def _at_first(row: Sample, share: float) -> Sample:
    """The row with its reward as the critic's target, at the first token of the answer alone."""
    weights = np.zeros(len(row.token_ids))
    weights[np.flatnonzero(row.action_mask)[0]] = share
    return row.assign(returns=row.reward, value_weights=weights)


def _stored(row: Sample) -> float:
    if "value" not in row.numbers:
        raise RecipeError(
            f"group {row.group}: it has no number `value`, which algorithm.baseline stored reads; give the data a "
            "column `value`, the expected reward of the reference, or set algorithm.baseline to critic or group"
        )
    return row.numbers["value"]


plugin = ALoL
