"""Group-relative policy optimisation and its variants, by options: Dr. GRPO, DAPO, GSPO, CISPO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Literal

from llmrl.ops.credit import (
    Episode,
    Over,
    Scale,
    average,
    by_channel,
    by_group,
    center,
    counts,
    has_credit,
    most_uncertain,
)
from llmrl.ops.kl import k2, k3, log_ratio
from llmrl.ops.losses import (
    Level,
    at_level,
    clip_metrics,
    clipped_surrogate,
    entropy_metric,
    old_logprobs,
    weighted_logprob,
)
from llmrl.ops.mismatch import off_policy_mask, require_scaled
from llmrl.ops.ratio_options import Repeated, check_delta, check_place
from llmrl.ops.turns import TurnCredit
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.recipe.ranges import Amount
from llmrl.samples import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch

OVER: dict[str, Over] = {"grpo": "sequence", "dapo": "token", "dr_grpo": "constant", "cispo": "token"}


@dataclass(frozen=True, kw_only=True)
class GRPO(TurnCredit, Repeated):
    """An answer is good if it beats its siblings: no critic, the group is the baseline (arXiv 2402.03300, eq. 3).

    Defaults are TRL's, except for the correction of the engine's probabilities: TRL masks whole sequences by the
    product of their ratios, which throws away long answers first; here each token's weight is cut instead.
    """

    delta: float | None = None  # what a ratio counts as at most; above 1 + epsilon_high. None: no bound (dual clip)
    beta: float = 0.0  # weight of the divergence from the reference; 0 needs no reference model. The paper took 0.04
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"  # k3, k2 in the loss; k1 in the reward; any other pair is wrong
    kl_in_reward: bool = False  # subtract beta times the episode's summed k1 from its reward, before the baseline
    scale_rewards: Scale | bool = "group"  # what advantages are divided by; "none" is Dr. GRPO (arXiv 2503.20783)
    channels: Mapping[str, float] | None = field(default=None, hash=False)  # weights of parts centred by themselves
    loss_type: Literal["grpo", "dapo", "dr_grpo", "cispo"] = "dapo"  # mean over sequences, tokens, a constant, tokens
    loss_average: Over | None = None  # another average than that of loss_type
    max_completion_length: int | None = None  # tokens: the constant divisor, in every step. None: the rollout's
    weight_cap: float = 5.0  # of cispo: the largest weight, where the others clip at epsilon (arXiv 2510.13786)
    weight_floor: float = 0.0  # and the smallest
    importance_sampling_level: Level = "token"  # "sequence" is GSPO (arXiv 2507.18071), "sequence_token" its variant
    mask_truncated_completions: bool = False  # what a limit cut off teaches nothing, but counts in the baseline
    entropy_coef: Amount = 0.0  # weight of an entropy bonus; averaged as the policy's terms are
    top_entropy_quantile: float = 1.0  # share of the tokens, those of highest entropy, that the policy learns from
    off_policy_mask_threshold: float | None = None  # nats a token; drops rows with a loss that the policy has left

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta >= 0:
            raise ValueError(f"beta {self.beta}: expected at least 0")
        check_delta(self.delta, self.high)
        check_place(self.kl_estimator, self.kl_in_reward)
        self.check_turns()
        if self.max_completion_length is not None and self.max_completion_length < 1:
            raise ValueError(f"max_completion_length {self.max_completion_length}: expected at least 1, as in rollout")
        if not 0 <= self.weight_floor <= 1 <= self.weight_cap:
            raise ValueError(f"weight_floor {self.weight_floor}, weight_cap {self.weight_cap}: expected 1 between them")
        self._check_channels()
        if not 0 <= self.top_entropy_quantile <= 1:
            raise ValueError(f"top_entropy_quantile {self.top_entropy_quantile}: expected from 0 to 1")
        if self.top_entropy_quantile < 1 and self.importance_sampling_level == "sequence":
            raise ValueError(
                "top_entropy_quantile: a ratio of a whole sequence teaches all of its tokens, whatever terms are left; "
                "expected importance_sampling_level token or sequence_token"
            )
        if self.off_policy_mask_threshold is not None and self.off_policy_mask_threshold <= 0:
            raise ValueError(f"off_policy_mask_threshold {self.off_policy_mask_threshold}: expected above 0")

    def _check_channels(self) -> None:
        if self.channels is None:
            return
        if not self.channels or not all(isfinite(weight) and weight for weight in self.channels.values()):
            raise ValueError(f"channels {dict(self.channels)}: expected parts of the reward with weights other than 0")
        if self.beta and self.kl_in_reward:
            raise ValueError("channels: the divergence is no part of the reward; expected kl_in_reward: false")
        if self.credit_level == "turn":
            raise ValueError("channels: parts of a reward are of whole episodes; expected credit_level: outcome")

    @property
    def least_generations(self) -> int:
        """Episodes that a group needs: one alone never differs from its mean."""
        return 2

    def fitted(self, max_completion_length: int) -> GRPO:
        """The same with the rollout's limit as the constant divisor, where none is given.

        Raises:
            ValueError: another one is.
        """
        given, limit = self.max_completion_length, max_completion_length
        if given is not None and given != limit:
            raise ValueError(
                f"max_completion_length {given}, but rollout.max_completion_length is {limit}: answers end there; "
                f"expected algorithm.max_completion_length={limit}, or null, which follows the rollout"
            )
        return replace(self, max_completion_length=limit) if self.over == "constant" else self

    @property
    def over(self) -> Over:
        """The unit that the loss is averaged over."""
        return self.loss_average or OVER[self.loss_type]

    @property
    def scale(self) -> Scale:
        """`scale_rewards`, where true means by group."""
        if isinstance(self.scale_rewards, bool):
            return "group" if self.scale_rewards else "none"
        return self.scale_rewards

    def needs(self) -> frozenset[Column]:
        """The reference where beta is not 0; the policy before the step only if the step moves it more than once.

        In the first optimiser step of a batch the old policy is the new one, so the loss takes its own value, detached:
        the same gradient for one forward pass less. Where the entropy chooses tokens it is needed before the step.
        """
        columns: set[Column] = {"ref_logprobs"} if self.beta else set()
        if self.repeats or (self.beta and self.kl_in_reward):
            columns.add("old_logprobs")
        if self.top_entropy_quantile < 1:
            columns.add("old_entropy")
        return frozenset(columns)

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Each action token gets the advantage of its episode or turn; the weights make `loss_type`'s average.

        Episodes that nobody could judge (reward NaN), and truncated ones if they are masked, leave the objective and
        its denominators. Tokens that `top_entropy_quantile` leaves out have no advantage, and stay in them; so do rows
        without a gradient, which are dropped once the weights are set.

        Raises:
            RecipeError: the engine's log-probabilities cannot be compared with a trainer's.
        """
        if self.importance_sampling_correction != "none" or self.off_policy_mask_threshold is not None:
            require_scaled(samples)
        groups = by_group(samples)
        beta = self.beta if self.kl_in_reward else 0.0
        episodes = self.advantages(groups, beta, partial(self._centered, groups))
        rows = [row for episode in episodes if counts(episode, self.mask_truncated_completions) for row in episode]
        rows = average(rows, self.over, self.max_completion_length)
        if self.top_entropy_quantile < 1:
            rows = most_uncertain(rows, self.top_entropy_quantile)
        everywhere = self.entropy_coef != 0 or (self.beta > 0 and not self.kl_in_reward)
        return rows if everywhere else [row for row in rows if has_credit(row)]

    def _centered(
        self, groups: Sequence[Sequence[Episode]], rewards: Sequence[Sequence[float]]
    ) -> Sequence[Sequence[float]]:
        """Advantages of rewards that are compared, or of their parts."""
        return center(rewards, self.scale) if self.channels is None else by_channel(groups, self.channels, self.scale)

    def updates(self, step: int) -> Sequence[Update]:
        """The single update: the policy learns from `loss`."""
        entropy_grad = self.entropy_coef != 0
        return [Update("policy", self.loss, self.num_iterations, self.minibatches, entropy_grad=entropy_grad)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """The policy's terms, times the engine's correction; then the divergence from the reference, the entropy."""
        old = old_logprobs(new, batch)
        terms, metrics = self._policy(new.logprobs, old, batch)
        terms, seen = self.correction.apply(terms, old, batch)
        metrics |= seen
        if self.off_policy_mask_threshold is not None:
            kept = off_policy_mask(new.logprobs, batch, self.off_policy_mask_threshold)
            terms, metrics["sampling/off_policy_dropped"] = kept * terms, 1 - kept
        if self.beta:
            terms, metrics["kl"] = self._with_kl(terms, new.logprobs, batch.ref_logprobs)
        if self.entropy_coef:
            terms = terms - self.entropy_coef * new.entropy
        return Loss(terms, metrics | entropy_metric(new))

    def _policy(self, new: Tensor, old: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        now, before = at_level(new, old, batch, self.importance_sampling_level)
        if self.loss_type != "cispo":
            terms = clipped_surrogate(now, before, batch.advantages, self.epsilon, self.high, self.delta)
            return terms, clip_metrics(now, before, batch.advantages, self.epsilon, self.high)
        ratio = log_ratio(now.detach(), before).exp()
        terms = weighted_logprob(new, ratio, batch.advantages, self.weight_floor, self.weight_cap)
        cut = (ratio > self.weight_cap) & (batch.advantages > 0)
        return terms, {"cispo_clip_ratio": cut.to(ratio.dtype)}

    def _with_kl(self, terms: Tensor, new: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        if not self.kl_in_reward:
            terms = terms + self.beta * (k2 if self.kl_estimator == "k2" else k3)(new, ref)
        return terms, k3(new.detach(), ref)


plugin = GRPO
