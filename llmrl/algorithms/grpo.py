"""Group-relative policy optimisation and its variants, by options: Dr. GRPO, DAPO, GSPO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING, Literal

from llmrl.ops.credit import Episode, Over, Scale, average, by_group, center, has_credit
from llmrl.ops.kl import LIMIT, k2, k3
from llmrl.ops.losses import clipped, clipped_surrogate, sequence_mean
from llmrl.ops.mismatch import require_scaled, token_truncate
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.types import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch

OVER: dict[str, Over] = {"grpo": "sequence", "dapo": "token", "dr_grpo": "constant"}


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """An answer is good if it beats its siblings: no critic, the group is the baseline (arXiv 2402.03300, eq. 3).

    Defaults are TRL's, except for the correction of the engine's probabilities: TRL masks whole sequences by the
    product of their ratios, which throws away long answers first; here each token's weight is cut instead.
    """

    epsilon: float = 0.2  # the ratio may fall to 1 - epsilon (arXiv 1707.06347)
    epsilon_high: float | None = None  # and rise to 1 + epsilon_high; None: epsilon. DAPO takes 0.28 (arXiv 2503.14476)
    delta: float | None = None  # what a ratio counts as at most; above 1 + epsilon_high. None: no bound (dual clip)
    beta: float = 0.0  # weight of the divergence from the reference; 0 needs no reference model. The paper took 0.04
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"  # k3, k2 in the loss; k1 in the reward; any other pair is wrong
    kl_in_reward: bool = False  # subtract beta times the episode's summed k1 from its reward, before the baseline
    scale_rewards: Scale | bool = "group"  # what gains are divided by; "none" is Dr. GRPO (arXiv 2503.20783)
    loss_type: Literal["grpo", "dapo", "dr_grpo"] = "dapo"  # mean over sequences, over tokens, or a constant divisor
    max_completion_length: int | None = None  # tokens: the constant divisor of dr_grpo, the same in every step
    importance_sampling_level: Literal["token", "sequence"] = "token"  # "sequence" is GSPO (arXiv 2507.18071)
    mask_truncated_completions: bool = False  # what a limit cut off teaches nothing, but counts in the baseline
    importance_sampling_correction: Literal["token_truncate", "none"] = "token_truncate"  # of engine against trainer
    importance_sampling_cap: float = 2.0  # the largest weight of a token; no effect where engine and trainer agree
    num_iterations: int = 1  # passes over a step's samples
    minibatches: int = 1  # optimiser steps in a pass

    def __post_init__(self) -> None:
        if self.epsilon < 0 or self.high < 0 or self.beta < 0:
            raise ValueError("epsilon, epsilon_high and beta must be at least 0")
        if self.delta is not None and self.delta <= 1 + self.high:
            raise ValueError(f"delta {self.delta}: expected above 1 + epsilon_high, which is {1 + self.high}")
        if self.kl_in_reward != (self.kl_estimator == "k1"):
            place = "reward" if self.kl_in_reward else "loss"
            raise ValueError(
                f"kl_estimator {self.kl_estimator} in the {place}: its gradient is not that of the divergence; "
                "expected kl_in_reward: true with k1, or kl_in_reward: false with k2 or k3"
            )
        if self.loss_type == "dr_grpo" and (self.max_completion_length is None or self.max_completion_length < 1):
            raise ValueError("loss_type dr_grpo divides by max_completion_length: give it, as in rollout")
        if self.importance_sampling_cap < 1:
            raise ValueError(f"importance_sampling_cap {self.importance_sampling_cap}: expected at least 1")
        if self.num_iterations < 1 or self.minibatches < 1:
            raise ValueError("num_iterations and minibatches must be at least 1")

    @property
    def high(self) -> float:
        """How far the ratio may rise."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def scale(self) -> Scale:
        """`scale_rewards`, where true means by group."""
        if isinstance(self.scale_rewards, bool):
            return "group" if self.scale_rewards else "none"
        return self.scale_rewards

    def needs(self) -> frozenset[Column]:
        """The reference where beta is not 0; the policy before the step only if the step moves it more than once.

        In the first optimiser step of a batch the old policy is the new one, so the loss takes its own value, detached:
        the same gradient for one forward pass less.
        """
        columns: set[Column] = {"ref_logprobs"} if self.beta else set()
        if self.num_iterations * self.minibatches > 1 or (self.beta and self.kl_in_reward):
            columns.add("old_logprobs")
        return frozenset(columns)

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Each action token gets its episode's advantage; the weights make `loss_type`'s average over the whole step.

        Episodes that nobody could judge (reward NaN), and truncated ones if they are masked, leave the objective and
        its denominators. Rows without a gradient are dropped once the weights are set: they stay in the denominators.

        Raises:
            RecipeError: the engine's log-probabilities cannot be compared with a trainer's.
        """
        if self.importance_sampling_correction != "none":
            require_scaled(samples)
        groups = by_group(samples)
        gains = center([[self._reward(episode) for episode in group] for group in groups], self.scale)
        rows = [
            row.assign(advantages=gain)
            for group, group_gains in zip(groups, gains, strict=True)
            for episode, gain in zip(group, group_gains, strict=True)
            if self._counts(episode)
            for row in episode
        ]
        rows = average(rows, OVER[self.loss_type], self.max_completion_length)
        kl_in_loss = self.beta > 0 and not self.kl_in_reward
        return rows if kl_in_loss else [row for row in rows if has_credit(row)]

    def updates(self, step: int) -> Sequence[Update]:
        """One: the policy learns from `loss`."""
        return [Update("policy", self.loss, self.num_iterations, self.minibatches)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Clipped surrogate, times the engine's correction, plus the divergence from the reference."""
        assert new.logprobs is not None
        before = new.logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
        now, old = new.logprobs, before
        if self.importance_sampling_level == "sequence":
            now, old = sequence_mean(now, batch), sequence_mean(old, batch)
        terms = clipped_surrogate(now, old, batch.advantages, self.epsilon, self.high, self.delta)
        fell, rose = clipped(now, old, batch.advantages, self.epsilon, self.high)
        metrics = {"clip_ratio/low_mean": fell, "clip_ratio/high_mean": rose, "clip_ratio/region_mean": fell + rose}
        if self.importance_sampling_correction == "token_truncate":
            weight = token_truncate(before, batch.sampled_logprobs, self.importance_sampling_cap)
            terms = weight * terms
            metrics["sampling/importance_sampling_ratio/mean"] = weight
            metrics["sampling/sampling_logp_difference/mean"] = (before - batch.sampled_logprobs).abs()
        if self.beta:
            terms, metrics["kl"] = self._with_kl(terms, new.logprobs, batch.ref_logprobs)
        if new.entropy is not None:
            metrics["entropy"] = new.entropy.detach()
        return Loss(terms, metrics)

    def _with_kl(self, terms: Tensor, new: Tensor, ref: Tensor | None) -> tuple[Tensor, Tensor]:
        assert ref is not None
        if not self.kl_in_reward:
            terms = terms + self.beta * (k2 if self.kl_estimator == "k2" else k3)(new, ref)
        return terms, k3(new.detach(), ref)

    def _reward(self, episode: Episode) -> float:
        reward = episode[0].reward
        if isnan(reward):
            return nan
        return reward - self.beta * sum(map(_summed_k1, episode)) if self.beta and self.kl_in_reward else reward

    def _counts(self, episode: Episode) -> bool:
        if isnan(episode[0].reward):
            return False
        return not (self.mask_truncated_completions and any(row.truncated for row in episode))


def _summed_k1(row: Sample) -> float:
    assert row.old_logprobs is not None
    assert row.ref_logprobs is not None
    columns = zip(row.old_logprobs, row.ref_logprobs, row.action_mask, strict=True)
    return sum(max(-LIMIT, min(LIMIT, old - ref)) for old, ref, chosen in columns if chosen)


plugin = GRPO
