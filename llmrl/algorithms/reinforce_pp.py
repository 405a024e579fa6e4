"""REINFORCE++: returns of single tokens, whitened over the whole step, in a clipped surrogate; no critic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from llmrl.ops.credit import NO_SIGNAL, Episode, average, by_group, center, counts, divergence_as_k1, has_credit
from llmrl.ops.gae import returns, whiten
from llmrl.ops.kl import k3
from llmrl.ops.losses import clip_metrics, clipped_surrogate, entropy_metric, old_logprobs
from llmrl.ops.mismatch import require_scaled
from llmrl.ops.ratio_options import Repeated, check_delta
from llmrl.ops.tracks import EpisodeSequence, episode_sequence
from llmrl.ops.turns import CreditLevel
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.samples import Sample

if TYPE_CHECKING:
    from llmrl.batch import Batch


@dataclass(frozen=True, kw_only=True)
class ReinforcePP(Repeated):
    """A token is good if more comes after it than after the step's other tokens (REINFORCE++, arXiv 2501.03262).

    With `baseline: group` an answer's reward is first compared with its group's mean; the deviation that divides is
    still the step's, so no problem counts more for being almost always or almost never solved.
    """

    baseline: Literal["none", "group"] = (
        "none"  # subtracted from the reward; "group" needs several answers to a problem
    )
    credit_level: CreditLevel = "turn"  # place of the rewards of turns: their turn's end; outcome: the episode's end
    gamma: float = 1.0  # discount of a token
    turn_discount: float = 1.0  # discount of a turn, besides gamma
    beta: float = 0.01  # weight of the divergence from the reference, as each token's k1 in its reward; OpenRLHF's
    delta: float | None = None  # what a ratio counts as at most; above 1 + epsilon_high. None: no bound (dual clip)
    mask_truncated_completions: bool = False  # what a limit cut off teaches nothing, but counts in the group's mean

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta >= 0:
            raise ValueError(f"beta {self.beta}: expected at least 0")
        for name in ("gamma", "turn_discount"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 0 to 1")
        check_delta(self.delta, self.high)

    @property
    def least_generations(self) -> int:
        """Episodes that a group needs: two for its mean to be a baseline."""
        return 2 if self.baseline == "group" else 1

    @property
    def least_episodes(self) -> int:
        """Episodes that a step needs: the tokens of a single one all have its reward as their return, undiscounted."""
        return 2 if self.gamma == 1 else 1

    def needs(self) -> frozenset[Column]:
        """The reference and the policy before the step where beta is not 0; the latter also with several updates."""
        columns: set[Column] = {"ref_logprobs", "old_logprobs"} if self.beta else set()
        return frozenset(columns | {"old_logprobs"} if self.repeats else columns)

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Each action token gets its whitened return; every token of the step weighs the same.

        Episodes that nobody could judge (reward NaN), and truncated ones if they are masked, leave the objective, the
        moments and the denominator. A step whose returns are all equal teaches nothing.

        Raises:
            RecipeError: the engine's log-probabilities cannot be compared with a trainer's.
        """
        if self.importance_sampling_correction != "none":
            require_scaled(samples)
        tracks = [
            self._track(episode, centered)
            for group in by_group(samples)
            for episode, centered in zip(group, self._centered(group), strict=True)
            if counts(episode, self.mask_truncated_completions) and any(row.actions for row in episode)
        ]
        sums = [
            returns(track.total, track.mask, gamma=track.discounts(self.gamma, self.turn_discount)) for track in tracks
        ]
        known = [column[track.mask] for track, column in zip(tracks, sums, strict=True)]
        if not known or max(map(np.max, known)) - min(map(np.min, known)) < NO_SIGNAL:
            return []
        whitened = whiten(sums, [track.mask for track in tracks])
        rows = [row for track, column in zip(tracks, whitened, strict=True) for row in track.assign(advantages=column)]
        return [row for row in average(rows, "token") if has_credit(row)]

    def updates(self, step: int) -> Sequence[Update]:
        """The single update: the policy learns from `loss`."""
        return [Update("policy", self.loss, self.num_iterations, self.minibatches)]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Clipped surrogate, times the engine's correction."""
        old = old_logprobs(new, batch)
        terms = clipped_surrogate(new.logprobs, old, batch.advantages, self.epsilon, self.high, self.delta)
        metrics = clip_metrics(new.logprobs, old, batch.advantages, self.epsilon, self.high)
        terms, seen = self.correction.apply(terms, old, batch)
        metrics |= seen
        if "ref_logprobs" in batch.columns:
            metrics["kl"] = k3(new.logprobs.detach(), batch.ref_logprobs)
        return Loss(terms, metrics | entropy_metric(new))

    def _centered(self, group: Sequence[Episode]) -> list[float]:
        """Rewards of the episodes of a group, less their mean where that is the baseline."""
        rewards = [episode[0].reward for episode in group]
        return center([rewards], "none")[0] if self.baseline == "group" else rewards

    def _track(self, episode: Episode, centered: float) -> EpisodeSequence:
        """The episode with two channels of reward more: the group's baseline, and the cost of the divergence."""
        track = episode_sequence(episode, level=self.credit_level)
        baseline = np.zeros(len(track.mask))
        baseline[track.mask.nonzero()[0][-1]] = centered - episode[0].reward
        rewards = {**track.rewards, "baseline": baseline}
        if self.beta:
            rewards["kl"] = -self.beta * np.concatenate([divergence_as_k1(row) for row in track.rows])
        return replace(track, rewards=rewards)


plugin = ReinforcePP
