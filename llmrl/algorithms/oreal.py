"""OREAL: clone right answers, push wrong ones away, each token as much as a reward model trained alongside says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isnan
from random import Random
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from llmrl.ops.credit import Episode, by_group, center, leave_one_out, refuse_dense, token_weights
from llmrl.ops.gae import spread
from llmrl.ops.kl import k1, k3, log_ratio
from llmrl.ops.losses import entropy_metric, old_logprobs, sequence_mean
from llmrl.ops.scores import running_mean
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.samples import Array, Sample

if TYPE_CHECKING:
    from llmrl.batch import Batch

Anchor = Literal["initial", "previous"]
Push = Literal["ratio", "log_ratio"]

SIDES = {"right": True, "wrong": False}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The choices in which the paper and its released code differ."""

    scale_right: bool  # multiply right answers by their advantage; else by 1
    scale_wrong: bool  # the same of wrong ones
    wrong_term: Push  # of wrong answers: the ratio to the policy before the step, or its logarithm
    kl_anchor: Anchor  # the divergence is from the model of the run's start, or from the policy before the step
    weight_sees_token: bool  # a token's weight follows the reward model's output after the token, else before it
    wrong_reward: float  # a right answer has 1


FORMS: Mapping[str, Variant] = {
    "reference": Variant(
        scale_right=True,
        scale_wrong=True,
        wrong_term="ratio",
        kl_anchor="initial",
        weight_sees_token=False,
        wrong_reward=-1.0,
    ),
    "paper": Variant(
        scale_right=False,
        scale_wrong=False,
        wrong_term="log_ratio",
        kl_anchor="previous",
        weight_sees_token=True,
        wrong_reward=0.0,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Oreal:
    """Outcome rewards for long reasoning (arXiv 2502.06781): one right and one wrong answer of each problem teach.

    The token reward model is the model `critic`: its one number per token is a logit, and the sigmoid of the mean over
    an answer is the probability that the answer is right. The running mean up to a token says how good the answer looks
    there: right answers are cloned where it looks right, wrong ones are pushed away where it looks wrong. While its
    outputs are all 0, as with a head that begins at 0, the policy has no signal: hence `critic_only_steps`.
    """

    variant: Literal["reference", "paper"] = "reference"  # what the options that are None follow: `FORMS`
    token_weights: Literal["threshold", "top_fraction", "none"] = "threshold"  # "none" needs no reward model
    weight_threshold: float = 0.5  # probabilities up to it weigh 0; from there to 1 the weight rises to 1
    top_fraction: float = 0.5  # of an answer's tokens, those that look most like its verdict
    eta: float = 0.5  # weight of the wrong answers
    beta: float = 0.01  # weight of the divergence from the anchor, k3, over the tokens of both; 0 needs no reference
    advantage: Literal["leave_one_out", "group"] = "leave_one_out"  # "group": divided by the group's deviation
    selection: Literal["pair", "all"] | None = None  # of a mixed group; None: a pair, or all without a reward model
    right_above: float = 0.0  # where the reward gives no verdict, an answer is right if its reward is above this
    critic_only_steps: int = 10  # the first steps, in which only the reward model learns
    minibatches: int = 1  # optimiser steps in a step
    scale_right: bool | None = None
    scale_wrong: bool | None = None
    wrong_term: Push | None = None
    kl_anchor: Anchor | None = None
    weight_sees_token: bool | None = None
    wrong_reward: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.weight_threshold < 1:
            raise ValueError(f"weight_threshold {self.weight_threshold}: expected at least 0 and below 1")
        if not 0 < self.top_fraction <= 1:
            raise ValueError(f"top_fraction {self.top_fraction}: expected above 0 and at most 1")
        if self.eta < 0 or self.beta < 0:
            raise ValueError("eta and beta must be at least 0")
        if self.critic_only_steps < 0 or self.minibatches < 1:
            raise ValueError("critic_only_steps must be at least 0, minibatches at least 1")
        if self.form.wrong_reward >= 1:
            raise ValueError(f"wrong_reward {self.wrong_reward}: expected below 1, which a right answer is paid")

    @property
    def least_generations(self) -> int:
        """Episodes that a group needs: a right one and a wrong one."""
        return 2

    @property
    def form(self) -> Variant:
        """The variant's, but for the options that are set."""
        own = {field.name: getattr(self, field.name) for field in fields(Variant)}
        return replace(FORMS[self.variant], **{name: value for name, value in own.items() if value is not None})

    @property
    def has_reward_model(self) -> bool:
        return self.token_weights != "none"

    def needs(self) -> frozenset[Column]:
        """The reward model's logits, the reference where it is the anchor, the old policy if a step moves it twice."""
        columns: set[Column] = set()
        if self.has_reward_model:
            columns.add("next_values" if self.form.weight_sees_token else "values")
        if self.beta and self.form.kl_anchor == "initial":
            columns.add("ref_logprobs")
        if self.minibatches > 1:
            columns.add("old_logprobs")
        return frozenset(columns)

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """The chosen answers of problems that were solved sometimes; nothing else is counted anywhere.

        With N tokens in all, of which N_c are of a row's class (right, wrong): each token weighs 1/N; `returns` is
        N/N_c, negative for wrong answers, so that a mean over all tokens of what it multiplies is one over the class;
        `advantages` are that times advantage and token weight, and eta. `value_weights` make the reward model's mean
        over answers.

        Raises:
            RecipeError: tokens have rewards of their own, which nothing here reads.
        """
        refuse_dense(samples, "oreal")
        chosen = [pair for group in by_group(samples) for pair in self._chosen(group)]
        tokens = {side: sum(row.actions for row, gain in chosen if (gain > 0) == side) for side in (True, False)}
        total = sum(tokens.values())
        rows = []
        for row, gain in chosen:
            share = total / tokens[gain > 0]
            advantages = spread(gain * share * self._weights(row, gain > 0), row.action_mask)
            rows.append(row.assign(advantages=advantages, returns=share if gain > 0 else -share))
        means = zip(rows, token_weights(rows, "token"), token_weights(rows, "sequence"), strict=True)
        return [row.assign(weights=of_tokens, value_weights=of_answers) for row, of_tokens, of_answers in means]

    def updates(self, step: int) -> Sequence[Update]:
        """The reward model learns in every step, the policy from step `critic_only_steps` on."""
        policy = Update("policy", self.loss, minibatches=self.minibatches)
        if not self.has_reward_model:
            return [policy]
        critic = Update("critic", self.reward_model_loss, minibatches=self.minibatches)
        return [critic] if step < self.critic_only_steps else [critic, policy]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Behaviour cloning of right answers, policy gradient on wrong ones, k3 on both."""
        import torch

        old = old_logprobs(new, batch)
        right, distance = batch.returns > 0, log_ratio(new.logprobs, old)
        moved = distance if self.form.wrong_term == "log_ratio" else torch.exp(distance)
        cloned = torch.where(right, -batch.advantages * new.logprobs, 0.0)
        pushed = torch.where(right, 0.0, -batch.advantages * moved)
        terms = cloned + pushed
        metrics = {"loss/right": cloned, "loss/wrong": pushed}
        if self.beta:
            anchor = batch.ref_logprobs if self.form.kl_anchor == "initial" else old
            divergence = k3(new.logprobs, anchor)
            terms = terms + self.beta * divergence
            metrics |= {"kl": divergence, "kl/k1": k1(new.logprobs, anchor)}
        return Loss(terms, {name: values.detach() for name, values in metrics.items()} | entropy_metric(new))

    def reward_model_loss(self, new: Forward, batch: Batch) -> Loss:
        """Cross-entropy of the mean logit of each answer with its verdict, on every token of the answer."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        logits = new.next_values if self.form.weight_sees_token else new.values
        mean, right = sequence_mean(logits, batch), batch.returns > 0
        terms = binary_cross_entropy_with_logits(mean, right.to(mean.dtype), reduction="none")
        return Loss(terms)

    def metrics(self, rows: Sequence[Sample]) -> dict[str, float]:
        """Counts of kept answers, and the reward model's scores before it learns from them; means over a class."""
        if not rows:
            return {"kept/groups": 0.0}
        sides = {name: [row for row in rows if self._is_right(row) == good] for name, good in SIDES.items()}
        metrics = {"kept/groups": float(len({row.group for row in rows}))}
        total = sum(row.actions for row in rows)
        for name, side in sides.items():
            weights = np.concatenate([self._weights(row, SIDES[name]) for row in side])
            metrics[f"kept/{name}_tokens"] = float(len(weights))
            metrics[f"token_weights/{name}"] = float(weights.mean())
            zero = np.count_nonzero(weights == 0.0) / total
            metrics["token_weights/zero"] = metrics.get("token_weights/zero", 0.0) + zero
        if self.has_reward_model:
            hits = sum(bool(self._logits(row)[-1] > 0) == self._is_right(row) for row in rows)
            metrics["reward_model/accuracy"] = hits / len(rows)
        return metrics

    def _chosen(self, group: Sequence[Episode]) -> list[tuple[Sample, float]]:
        """Rows of a group with what each token of them is worth, eta included; none if all are right, or wrong."""
        judged = [episode for episode in group if not isnan(episode[0].reward) and any(row.actions for row in episode)]
        judged.sort(key=lambda episode: episode[0].episode)
        right = [self._right(episode[0]) for episode in judged]
        if len(set(right)) < 2:
            return []
        form = self.form
        rewards = [1.0 if side else form.wrong_reward for side in right]
        advantages = leave_one_out(rewards) if self.advantage == "leave_one_out" else center([rewards], "group")[0]
        random = Random(f"pair of {judged[0][0].group}")
        sides = [[i for i, side in enumerate(right) if side == wanted] for wanted in (True, False)]
        selection = self.selection or ("pair" if self.has_reward_model else "all")
        kept = range(len(judged)) if selection == "all" else [random.choice(side) for side in sides]
        worth = [
            (advantage if form.scale_right else 1.0) if side else self.eta * (advantage if form.scale_wrong else -1.0)
            for side, advantage in zip(right, advantages, strict=True)
        ]
        return [(row, worth[i]) for i in kept for row in judged[i] if row.actions]

    def _right(self, row: Sample) -> bool:
        return row.reward > self.right_above if row.correct is None else row.correct

    def _is_right(self, row: Sample) -> bool:
        """True if a credited sample is right."""
        return bool(row.returns.max() > 0)

    def _logits(self, row: Sample) -> Array:
        """The running means of the reward model's numbers, one per action token."""
        column = row.next_values if self.form.weight_sees_token else row.values
        return running_mean(column[row.action_mask])

    def _weights(self, row: Sample, right: bool) -> Array:
        """Token weights: a number from 0 to 1 for each action token."""
        return self._rescaled(self._logits(row), right) if self.has_reward_model else np.ones(row.actions)

    def _rescaled(self, logits: Array, right: bool) -> Array:
        chances = _sigmoid(logits if right else -logits)
        if self.token_weights == "top_fraction":
            return top_fraction(chances, self.top_fraction)
        weights: Array = np.maximum(0.0, (chances - self.weight_threshold) / (1.0 - self.weight_threshold))
        return weights


def top_fraction(numbers: ArrayLike, fraction: float) -> Array:
    """0 for all but the largest `fraction` of the numbers, at least one; those from 0 (the least) to 1 (the largest).

    Where the kept ones are all equal each of them gets 1. Of equal numbers the earlier is kept.
    """
    numbers = np.asarray(numbers, np.float64)
    kept = np.argsort(-numbers, kind="stable")[: max(1, round(fraction * len(numbers)))]
    high, low = numbers[kept[0]], numbers[kept[-1]]
    weights = np.zeros(len(numbers))
    weights[kept] = (numbers[kept] - low) / (high - low) if high > low else 1.0
    return weights


def _sigmoid(x: Array) -> Array:
    odds = np.exp(-np.abs(x))  # at most 1, so that nothing overflows
    chances: Array = np.where(x >= 0, 1.0, odds) / (1.0 + odds)
    return chances


plugin = Oreal
