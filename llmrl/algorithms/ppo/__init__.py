"""Proximal policy optimisation with a critic, and its repairs for long answers, by options: VC-PPO, VAPO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, sqrt
from typing import TYPE_CHECKING

import numpy as np

from llmrl.algorithms.ppo.options import PPOOptions
from llmrl.errors import RecipeError
from llmrl.ops.credit import average, by_group, divergence_as_k1
from llmrl.ops.gae import RunningMoments, adapted_kl, adaptive_lambda, explained_variance, gae, returns, whiten
from llmrl.ops.kl import k2, k3
from llmrl.ops.losses import clip_metrics, clipped_squares, clipped_surrogate, entropy_metric, old_logprobs
from llmrl.ops.mismatch import require_scaled
from llmrl.ops.tracks import EpisodeSequence, ValueProfile, episode_sequence
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.samples import Array, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch


@dataclass(frozen=True, kw_only=True)
class PPO(PPOOptions):
    """A token is good if what came of it beats what a critic expected (arXiv 1707.06347; docs/algorithms/ppo.md).

    VC-PPO (arXiv 2503.01491): `critic_warmup`, and `lam` below `lam_critic`. VAPO (arXiv 2504.05118): that, with
    `length_adaptive_lambda`, `epsilon_high` and `positive_nll_coef`.
    """

    def needs(self) -> frozenset[Column]:
        """The critic; the reference where kl_coef is not 0; the policy before the step where that differs, or pays."""
        columns: set[Column] = {"values"}
        if self.bootstrap_truncated:
            columns.add("last_values")
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
        tracks, advantages = [], []
        for track in self._tracks(samples):
            own, targets = self._advantages_and_returns(track)
            clipped_around = {} if self.cliprange_value is None else {"old_values": track.values}
            tracks.append(replace(track, rows=track.assign(returns=targets, **clipped_around), rewards={}))
            advantages.append(own)
        final = whiten(advantages, [track.mask for track in tracks]) if self.whiten_advantages else advantages
        rows = [
            row for track, own in zip(tracks, final, strict=True) for row in track.assign(advantages=own) if row.actions
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
        before = old_logprobs(new, batch)
        terms = clipped_surrogate(new.logprobs, before, batch.advantages, self.epsilon, self.high, self.delta)
        metrics = clip_metrics(new.logprobs, before, batch.advantages, self.epsilon, self.high)
        metrics["policy/approxkl_avg"] = k2(new.logprobs.detach(), before)
        terms, seen = self.correction.apply(terms, before, batch)
        metrics |= seen
        metrics["loss/policy_avg"] = terms.detach()
        if self.kl_coef:
            metrics["kl"] = k3(new.logprobs.detach(), batch.ref_logprobs)
            if not self.kl_in_reward:
                estimate = k2 if self.kl_estimator == "k2" else k3
                terms = terms + self.kl_coef * estimate(new.logprobs, batch.ref_logprobs)
        if self.positive_nll_coef:
            terms = terms - self.positive_nll_coef * _imitation(batch) * new.logprobs
        if self.entropy_coef:
            terms = terms - self.entropy_coef * new.entropy
        return Loss(terms, metrics | entropy_metric(new))

    def value_loss(self, new: Forward, batch: Batch) -> Loss:
        """The critic head's own loss; with `cliprange_value` half the larger of two squared errors.

        Raises:
            RecipeError: `cliprange_value` with a head that is not `scalar`.
        """
        terms, metrics = new.value_loss(batch.returns), {"values": new.values.detach()}
        if self.cliprange_value is not None:
            squares = 0.5 * (new.values - batch.returns).square()
            if not squares.allclose(terms, rtol=1e-3, atol=1e-6, equal_nan=True):
                raise RecipeError(
                    f"algorithm.cliprange_value {self.cliprange_value}: it bounds a squared error, and the critic has "
                    "another loss; expected critic.head: {name: scalar}, or no cliprange_value"
                )
            terms = clipped_squares(new.values, batch.old_values, batch.returns, self.cliprange_value)
            metrics["clip_ratio"] = (terms > squares).to(terms.dtype)
        return Loss(terms, metrics)

    def metrics(self, rows: Sequence[Sample]) -> dict[str, float]:
        """Metrics of a whole step: the critic's fit, the advantages before whitening, the divergence."""
        known, profile = self.kl_coef and rows and "old_logprobs" in rows[0].columns, ValueProfile()
        advantages, targets, errors, divergence = RunningMoments(), RunningMoments(), RunningMoments(), RunningMoments()
        for track in self._tracks(rows):
            own, aims = (column[track.mask] for column in self._advantages_and_returns(track))
            values = track.values[track.mask]
            advantages.add(own)
            targets.add(aims)
            errors.add(aims - values)
            profile.add(values)
            if known:
                divergence.add([sum(float(divergence_as_k1(row).sum()) for row in track.rows)])
        if not targets.count:
            return {}
        numbers = {"advantages/mean": advantages.mean, "advantages/std": sqrt(advantages.variance)}
        numbers |= {"returns/mean": targets.mean} | profile.metrics()
        explained = explained_variance(targets, errors)
        numbers |= {} if explained is None else {"explained_variance": explained}
        if known:
            numbers |= {"objective/kl": divergence.mean, "objective/episodes": float(divergence.count)}
            numbers["kl_coef"] = self.kl_coef
        return numbers

    def _require_comparable(self, samples: Sequence[Sample]) -> None:
        """Refuse log-probabilities of the engine that mean another distribution than the trainer's."""
        if self.importance_sampling_correction != "none":
            require_scaled(samples)

    def _tracks(self, samples: Sequence[Sample]) -> Iterator[EpisodeSequence]:
        """The episodes that somebody could judge, with what each token earned, divergence and whitening included."""
        tracks = (
            self._track(episode)
            for group in by_group(samples)
            for episode in group
            if not isnan(episode[0].reward) and any(row.actions for row in episode)
        )
        if not self.whiten_rewards:
            return tracks
        unscaled = list(tracks)
        totals = whiten([track.total for track in unscaled], [track.mask for track in unscaled], shift_mean=False)
        return (replace(track, rewards={"reward": total}) for track, total in zip(unscaled, totals, strict=True))

    def _track(self, episode: list[Sample]) -> EpisodeSequence:
        penalty = self.missing_eos_penalty or 0.0
        track = episode_sequence(
            episode, level=self.credit_level, bootstrap=self.bootstrap_truncated, missing_eos_penalty=penalty
        )
        if not (self.kl_coef and self.kl_in_reward):
            return track
        cost = -self.kl_coef * np.concatenate([divergence_as_k1(row) for row in track.rows])
        return replace(track, rewards={**track.rewards, "kl": cost})

    def _advantages_and_returns(self, track: EpisodeSequence) -> tuple[Array, Array]:
        """Advantages before whitening, and the critic's targets, one of each per token."""
        values = track.values
        if self.discounts is not None:
            sums = [
                returns(earned, track.mask, gamma=track.discounts(self._discount(name), self.turn_discount))
                for name, earned in track.rewards.items()
            ]
            targets = np.add.reduce(sums)
            return targets - values, targets
        earned, alpha = track.total, self.length_adaptive_lambda
        gamma = track.discounts(self.gamma, self.turn_discount)
        lam = self.lam if alpha is None else adaptive_lambda(track.actions, alpha)
        advantages, errors = (
            gae(earned, values, track.mask, gamma=gamma, lam=decay, last=track.last) for decay in (lam, self.lam_critic)
        )
        return advantages, errors + values

    def _discount(self, channel: str) -> float:
        """Discount of a channel of reward. Unless it is named, the divergence is not discounted."""
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
    share = batch.nll_weights / batch.weights
    return share.where(batch.weights > 0, share.new_zeros(()))


plugin = PPO
