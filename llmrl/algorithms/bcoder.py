"""B-Coder: a language model's logits as action values, learned from stored programs with a conservative target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from llmrl.ops.credit import Episode, average, by_group
from llmrl.ops.dueling import lead
from llmrl.ops.losses import entropy_metric
from llmrl.ops.tracks import episode_sequence
from llmrl.protocols import Column, Forward, Loss, ModelSpec, Update
from llmrl.samples import Array, Sample

if TYPE_CHECKING:
    from llmrl.batch import Batch

GROUND_TRUTH = "is_ground_truth"
"""Number of a sample that is 1 where a person wrote the program; the format `program` gives it."""


@dataclass(frozen=True, kw_only=True)
class BCoder:
    """Q-learning on stored programs, with Q made of logits and a value (arXiv 2310.03173; docs/algorithms/bcoder.md).

    Two runs: `stage: values` trains V and leaves the policy as it is; `stage: policy` trains the policy and a residual
    of that V, which `critic.model` names.
    """

    stage: Literal["values", "policy"] = "policy"
    gamma: float = 0.999  # discount of a token
    alpha: float = 1.0  # advantage of a token, in units of reward, for a nat; 1: the policy begins as the reference
    max_reward: float = 1.0  # of an answer; no value exceeds it
    advantage_coef: float = 0.1  # of the distance from the likeliest tokens, of ground truth
    nll_coef: float = 0.5  # of the negative log-likelihood, of ground truth
    ground_truth: Literal["marked", "passed"] = "marked"  # rows with is_ground_truth, or all that earned max_reward
    head_width: int = 0  # of the value's hidden layer, in widths of the trunk; 0: none

    bounds_rewards: ClassVar[bool] = True  # no value exceeds `max_reward`

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma {self.gamma}: expected above 0 and at most 1")
        if not self.alpha > 0:
            raise ValueError(f"alpha {self.alpha}: expected above 0")
        for name in ("advantage_coef", "nll_coef", "head_width"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 0")

    @property
    def values_only(self) -> bool:
        """True where the policy does not learn."""
        return self.stage == "values"

    def models(self) -> Mapping[str, ModelSpec]:
        """V: a network that learns; then that network frozen, with a residual which begins at 0."""
        head = {"name": "capped", "high": self.max_reward, "width": self.head_width}
        if self.values_only:
            return {"critic": ModelSpec(heads={"v": head})}
        return {"critic": ModelSpec(trunk="reference", heads={"v": head | {"residual": True}})}

    def needs(self) -> frozenset[Column]:
        """V, and the policy's log-probabilities of three tokens: the data's, its own and the reference's likeliest."""
        return frozenset({"ref_peak_ids", "old_logprobs", "old_peak_logprobs", "old_other_logprobs", "values"})

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Target of each token's Q, as `returns`; its parts before the step, as `advantages` and `old_values`.

        `nll_weights` are the length of an answer that is ground truth, else 0: its losses are sums over tokens, beside
        the mean of the squared errors. Answers that were not scored leave the mean.
        """
        kept = [row for row in samples if not isnan(row.reward)]
        episodes = [e for group in by_group(kept) for e in group if any(row.actions for row in e)]
        return average([row for episode in episodes for row in self._targets(episode)], "sequence")

    def updates(self, step: int) -> Sequence[Update]:
        """V, and unless it alone learns the policy. One optimiser step each: both see the other as it was before."""
        critic = Update("critic", self.critic_loss)
        return [critic] if self.values_only else [critic, Update("policy", self.loss, peaks=True)]

    def critic_loss(self, new: Forward, batch: Batch) -> Loss:
        """Squared error of Q by V, with the advantages of the step's beginning."""
        error = batch.advantages + new.values - batch.returns
        return Loss(error.square(), {"td_error": error.detach(), "values": new.values.detach()})

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Squared error of Q by the advantages, with V of the step's beginning; of ground truth two terms more."""
        advantages = lead(new.logprobs, new.peak_logprobs, self.alpha)
        error = advantages + batch.old_values - batch.returns
        imitation = -self.advantage_coef * advantages - self.nll_coef * new.logprobs
        metrics = {"td_error": error, "advantages": advantages, "nll": -new.logprobs}
        metrics["agreement"] = (batch.token_ids == batch.ref_peak_ids).to(error.dtype)
        detached = {name: numbers.detach() for name, numbers in metrics.items()}
        return Loss(error.square() + batch.nll_weights * imitation, {**detached, **entropy_metric(new)})

    def metrics(self, rows: Sequence[Sample]) -> Mapping[str, float]:
        """Errors of ground truth and of other answers apart, values at both ends, and shares of answers."""
        if not rows:
            return {"bcoder/answers": 0.0}
        errors = [(row.advantages + row.old_values - row.returns)[row.action_mask] for row in rows]
        values = [row.old_values[row.action_mask] for row in rows]
        truth = np.array([self._is_truth(row) for row in rows])
        squares = np.array([float(np.square(error, dtype=np.float64).mean()) for error in errors])
        of = {"ground_truth": truth, "generated": ~truth}
        return {
            "bcoder/answers": float(len(rows)),
            "bcoder/ground_truth": float(truth.mean()),
            "bcoder/passed": float(np.mean([row.reward > 0 for row in rows])),
            "bcoder/values/first": float(np.mean([own[0] for own in values])),
            "bcoder/values/last": float(np.mean([own[-1] for own in values])),
            **{f"bcoder/td/{name}": float(squares[which].mean()) for name, which in of.items() if which.any()},
        }

    def _targets(self, episode: Episode) -> list[Sample]:
        """The rows of an episode, each action's target the reward and Q of the reference's next token."""
        track = episode_sequence(episode)
        columns = {name: _joined(track.rows, name) for name in self.needs() - {"ref_peak_ids"}}
        peak, acts = columns["old_peak_logprobs"], track.mask.nonzero()[0]
        ahead = columns["values"] + self.alpha * (columns["old_other_logprobs"] - peak)
        returns = track.total.copy()
        returns[acts[:-1]] += self.gamma * ahead[acts[1:]]
        advantages = self.alpha * (columns["old_logprobs"] - peak)
        rows = track.assign(returns=returns, advantages=advantages, old_values=columns["values"])
        return [row.assign(nll_weights=float(len(acts)) if self._is_truth(row) else 0.0) for row in rows if row.actions]

    def _is_truth(self, row: Sample) -> bool:
        """True for an answer that the policy imitates."""
        if self.ground_truth == "passed":
            return row.reward >= self.max_reward
        return row.numbers.get(GROUND_TRUTH, 0.0) > 0


def _joined(rows: Episode, name: str) -> Array:
    """A column of all rows of an episode, in float64."""
    joined: Array = np.concatenate([row.get(name) for row in rows], dtype=np.float64)
    return joined


plugin = BCoder
