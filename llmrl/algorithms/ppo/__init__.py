"""Proximal policy optimisation with a critic, and its repairs for long answers, by options: VC-PPO, VAPO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from math import isnan, sqrt
from typing import TYPE_CHECKING, Literal

from llmrl.algorithms.ppo.options import check_bounds, check_pairs
from llmrl.errors import RecipeError
from llmrl.ops.credit import average, by_group, divergence_as_k1
from llmrl.ops.gae import adapted_kl, adaptive_lambda, explained_variance, gae, moments, returns, whiten
from llmrl.ops.kl import k2, k3
from llmrl.ops.losses import clip_metrics, clipped_squares, clipped_surrogate
from llmrl.ops.mismatch import require_scaled
from llmrl.ops.ratio_options import Clipped
from llmrl.ops.tracks import EpisodeSequence, episode_sequence, value_profile
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.types import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch


@dataclass(frozen=True, kw_only=True)
class PPO(Clipped):
    """A token is good if what came of it beats what a critic expected (arXiv 1707.06347; docs/algorithms/ppo.md).

    VC-PPO (arXiv 2503.01491): `critic_warmup`, and `lam` below `lam_critic`. VAPO (arXiv 2504.05118): that, with
    `length_adaptive_lambda`, `epsilon_high` and `positive_nll_coef`.
    """

    delta: float | None = None  # what a ratio counts as at most; above 1 + epsilon_high. None: no bound (dual clip)
    cliprange_value: float | None = None  # how far a scalar critic may move in a step, in units of return; TRL took 0.2
    gamma: float = 1.0  # discount of a token
    lam: float = 0.95  # of the policy's advantages: 0 trusts the critic, 1 the rewards
    lam_critic: float = 1.0  # of the critic's targets; below 1 it learns from itself, and a late reward never arrives
    length_adaptive_lambda: float | None = None  # alpha of VAPO, 0.05: in place of lam, 1 - 1 / (alpha * actions)
    discounts: Mapping[str, float] | None = field(default=None, hash=False)  # of each channel of reward; with lam: 1
    bootstrap_truncated: bool = False  # what a token limit cut off goes on with the critic's value, not with 0
    missing_eos_penalty: float | None = None  # subtracted from the reward of what a token limit cut off
    whiten_advantages: bool = True  # over all action tokens of the step
    whiten_rewards: bool = False  # the same without moving the mean
    kl_coef: float = 1e-3  # weight of the divergence from the reference; 0 needs no reference model. TRL took 0.05
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"  # k1 in the reward; k3, k2 in the loss; any other pair is wrong
    kl_in_reward: bool = True
    kl_target: float | None = None  # nats an episode; kl_coef then follows what is seen (arXiv 1909.08593)
    kl_horizon: int = 10_000  # episodes until kl_coef has followed
    positive_nll_coef: float = 0.0  # weight of the likelihood of right answers; mu of VAPO, 0.1
    entropy_coef: float = 0.0  # weight of an entropy bonus
    num_ppo_epochs: int = 1  # passes over a step's samples, of both models
    minibatches: int = 4  # optimiser steps in a pass
    critic_warmup: int = 0  # steps, from the first, in which only the critic learns. VAPO took 50
    warmup_explained_variance: float | None = None  # ends the warm-up early, once the critic explains so much

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self)
        check_pairs(self)

    def needs(self) -> frozenset[Column]:
        """The critic; the reference where kl_coef is not 0; the policy before the step where that differs, or pays."""
        columns: set[Column] = {"values"}
        if self.bootstrap_truncated:
            columns.add("next_values")
        if self.kl_coef:
            columns.add("ref_logprobs")
        watched = self.kl_coef and (self.kl_in_reward or self.kl_target is not None)
        if watched or self.num_ppo_epochs * self.minibatches > 1:
            columns.add("old_logprobs")
        return frozenset(columns)

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Each action token gets its advantage and the critic's target; every token of the step weighs the same.

        Episodes that nobody could judge (reward NaN) leave the objective and its denominator. Rows stay even where
        their advantage is 0: the critic learns from them.

        Raises:
            RecipeError: the engine's log-probabilities cannot be compared with a trainer's, or `positive_nll_coef`
                without a verdict on right and wrong.
        """
        self._require_comparable(samples)
        tracks = self._tracks(samples)
        columns = [self._gains_and_targets(one) for one in tracks]
        gains = [gain for gain, _ in columns]
        if self.whiten_advantages:
            gains = whiten(gains, [one.mask for one in tracks])
        rows = [
            row
            for one, gain, (_, target) in zip(tracks, gains, columns, strict=True)
            for row in one.assign(advantages=gain, returns=target)
            if row.actions
        ]
        return self._imitating(average(rows, "token"))

    def updates(self, step: int) -> Sequence[Update]:
        """The critic learns from `value_loss`; after its warm-up the policy learns from `loss`."""
        critic = Update("critic", self.value_loss, self.num_ppo_epochs, self.minibatches)
        policy = Update("policy", self.loss, self.num_ppo_epochs, self.minibatches, entropy_grad=self.entropy_coef != 0)
        return [critic] if step < self.critic_warmup else [critic, policy]

    def adapted(self, step: int, metrics: Mapping[str, float]) -> PPO:
        """Ends the warm-up where the critic explains enough; afterwards moves `kl_coef` towards `kl_target`."""
        if step < self.critic_warmup:
            explained, enough = metrics.get("explained_variance"), self.warmup_explained_variance
            done = enough is not None and explained is not None and explained >= enough
            return replace(self, critic_warmup=step + 1) if done else self
        if self.kl_target is None or "objective/kl" not in metrics:
            return self
        seen, episodes = metrics["objective/kl"], int(metrics["objective/episodes"])
        return replace(self, kl_coef=adapted_kl(self.kl_coef, seen, self.kl_target, self.kl_horizon, episodes))

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Clipped surrogate, times the engine's correction, plus what the options add."""
        assert new.logprobs is not None
        before = new.logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
        terms = clipped_surrogate(new.logprobs, before, batch.advantages, self.epsilon, self.high, self.delta)
        metrics = clip_metrics(new.logprobs, before, batch.advantages, self.epsilon, self.high)
        metrics["policy/approxkl_avg"] = k2(new.logprobs.detach(), before)
        terms, seen = self.correction.apply(terms, before, batch)
        metrics |= seen
        metrics["loss/policy_avg"] = terms.detach()
        if self.kl_coef:
            assert batch.ref_logprobs is not None
            metrics["kl"] = k3(new.logprobs.detach(), batch.ref_logprobs)
            if not self.kl_in_reward:
                estimate = k2 if self.kl_estimator == "k2" else k3
                terms = terms + self.kl_coef * estimate(new.logprobs, batch.ref_logprobs)
        if self.positive_nll_coef:
            terms = terms - self.positive_nll_coef * _imitation(batch) * new.logprobs
        if new.entropy is not None:
            metrics["entropy"] = new.entropy.detach()
            terms = terms - self.entropy_coef * new.entropy if self.entropy_coef else terms
        return Loss(terms, metrics)

    def value_loss(self, new: Forward, batch: Batch) -> Loss:
        """The critic head's own loss; with `cliprange_value` half the larger of two squared errors.

        Raises:
            RecipeError: `cliprange_value` with a head that is not `scalar`.
        """
        assert new.values is not None
        assert new.value_loss is not None
        terms, metrics = new.value_loss(batch.returns), {"values": new.values.detach()}
        if self.cliprange_value is not None:
            assert batch.values is not None
            squares = 0.5 * (new.values - batch.returns).square()
            if not squares.allclose(terms, rtol=1e-3, atol=1e-6, equal_nan=True):
                raise RecipeError(
                    f"algorithm.cliprange_value {self.cliprange_value}: it bounds a squared error, and the critic has "
                    "another loss; expected critic.head: {name: scalar}, or no cliprange_value"
                )
            terms = clipped_squares(new.values, batch.values, batch.returns, self.cliprange_value)
            metrics["clip_ratio"] = (terms > squares).to(terms.dtype)
        return Loss(terms, metrics)

    def metrics(self, rows: Sequence[Sample]) -> dict[str, float]:
        """Of a whole step: how good the critic is, what the advantages were before whitening, the divergence."""
        tracks = self._tracks(rows)
        if not any(row.actions for row in rows):
            return {}
        gains: list[float] = []
        targets: list[float] = []
        values: list[float] = []
        for one in tracks:
            for column, into in zip(self._gains_and_targets(one), (gains, targets), strict=True):
                into += compress(column, one.mask)
            values += compress(one.values, one.mask)
        mean, variance = moments(gains)
        found = {"advantages/mean": mean, "advantages/std": sqrt(variance), "returns/mean": moments(targets)[0]}
        found |= value_profile(tracks)
        explained = explained_variance(targets, values)
        found |= {} if explained is None else {"explained_variance": explained}
        if self.kl_coef and rows[0].old_logprobs is not None:
            summed = [sum(sum(divergence_as_k1(row)) for row in one.rows) for one in tracks]
            found |= {"objective/kl": moments(summed)[0], "objective/episodes": float(len(tracks))}
            found["kl_coef"] = self.kl_coef
        return found

    def _require_comparable(self, samples: Sequence[Sample]) -> None:
        """Refuse log-probabilities of the engine that mean another distribution than the trainer's."""
        if self.importance_sampling_correction != "none":
            require_scaled(samples)

    def _tracks(self, samples: Sequence[Sample]) -> list[EpisodeSequence]:
        """The episodes that somebody could judge, with what each token earned, divergence and whitening included."""
        tracks = [
            self._track(episode)
            for group in by_group(samples)
            for episode in group
            if not isnan(episode[0].reward) and any(row.actions for row in episode)
        ]
        if not self.whiten_rewards:
            return tracks
        totals = whiten([one.total for one in tracks], [one.mask for one in tracks], shift_mean=False)
        return [replace(one, rewards={"reward": total}) for one, total in zip(tracks, totals, strict=True)]

    def _track(self, episode: list[Sample]) -> EpisodeSequence:
        penalty = self.missing_eos_penalty or 0.0
        one = episode_sequence(episode, bootstrap=self.bootstrap_truncated, missing_eos_penalty=penalty)
        if not (self.kl_coef and self.kl_in_reward):
            return one
        cost = [-self.kl_coef * number for row in one.rows for number in divergence_as_k1(row)]
        return replace(one, rewards={**one.rewards, "kl": cost})

    def _gains_and_targets(self, one: EpisodeSequence) -> tuple[list[float], list[float]]:
        """Advantages before whitening, and what the critic should have said, one of each per token."""
        if self.discounts is not None:
            sums = [returns(earned, one.mask, gamma=self._discount(name)) for name, earned in one.rewards.items()]
            targets = [sum(parts) for parts in zip(*sums, strict=True)]
            return [target - value for target, value in zip(targets, one.values, strict=True)], targets
        earned, alpha = one.total, self.length_adaptive_lambda
        lam = self.lam if alpha is None else adaptive_lambda(one.actions, alpha)
        gains, errors = (
            gae(earned, one.values, one.mask, gamma=self.gamma, lam=decay, last=one.last)
            for decay in (lam, self.lam_critic)
        )
        return gains, [error + value for error, value in zip(errors, one.values, strict=True)]

    def _discount(self, channel: str) -> float:
        """Of a channel of reward. Unless it is named, the divergence is never discounted."""
        return (self.discounts or {}).get(channel, 1.0 if channel == "kl" else self.gamma)

    def _imitating(self, rows: list[Sample]) -> list[Sample]:
        """Rows with `nll_weights`: the tokens of right answers share a weight of 1, all others have none."""
        if not self.positive_nll_coef or not rows:
            return rows
        if all(row.correct is None for row in rows):
            raise RecipeError(
                f"algorithm.positive_nll_coef {self.positive_nll_coef}: no reward judged right and wrong; expected a "
                "reward that gives verdicts, such as math_verify, or positive_nll_coef: 0"
            )
        right = sum(row.actions for row in rows if row.correct)
        return [row.assign(nll_weights=1.0 / right if row.correct else 0.0) for row in rows]


def _imitation(batch: Batch) -> Tensor:
    """(B, T) what the likelihood of a token counts beside its other terms, which `weights` will multiply."""
    assert batch.nll_weights is not None
    share = batch.nll_weights / batch.weights
    return share.where(batch.weights > 0, share.new_zeros(()))


plugin = PPO
