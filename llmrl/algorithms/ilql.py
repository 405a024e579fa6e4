"""Implicit language Q-learning (ILQL) and its kin: token critics that learn from stored answers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isnan
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch.nn.functional import huber_loss

from llmrl.ops.credit import Episode, average, by_group
from llmrl.ops.gae import returns
from llmrl.ops.implicit_values import ValueLoss, chi_square, expectile, gumbel, total_variation
from llmrl.ops.losses import entropy_metric, following
from llmrl.ops.tracks import episode_sequence
from llmrl.protocols import Column, Forward, Loss, ModelSpec, Update
from llmrl.samples import Array, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch

ACTIONS = ("q1", "q2")
"""Heads of action values, of which the lesser counts."""


@dataclass(frozen=True, kw_only=True)
class ILQL:
    """Learns Q and V of tokens from stored answers; the policy imitates (arXiv 2206.11871; docs/algorithms/ilql.md).

    XQL (arXiv 2301.02328) and f-DVL (arXiv 2302.08560) by `value_loss`.
    """

    value_loss: ValueLoss = "expectile"  # of V; gumbel is XQL's, tv and chi2 are f-DVL's
    tau: float = 0.7  # of expectile: 0.5 is the mean of the data's actions, towards 1 the best of them
    gumbel_beta: float = 1.0  # of gumbel: towards 0 the best of the data's actions, and unstable
    gumbel_clip: float = 7.0  # of gumbel: where (Q - V) / gumbel_beta is cut; 5 to 7
    lam: float = 0.78  # of tv and chi2, above 0.5: towards 1 the best of the data's actions
    gamma: float = 0.99  # discount of a token; 1.0 for long answers
    monte_carlo: bool = False  # Q learns the discounted return that came, in place of the next state's V
    huber: float | None = None  # error of Q beyond which its loss is linear; XQL and f-DVL took 20
    cql_weight: float = 0.01  # of the cross-entropy of Q with the data's tokens, which keeps Q of others low
    target_tau: float = 0.005  # share that the Polyak copy takes after every optimiser step
    target: Literal["heads", "model"] = "heads"  # of what there is a copy: the heads, or the trunk too
    trunk: Literal["policy", "reference"] = "policy"  # reference: frozen, and only the heads learn
    head_width: int = 2  # of the heads' hidden layer, in widths of the trunk; 0: linear heads
    policy: Literal["bc", "awac"] = "bc"  # what the policy imitates: all tokens alike, or by exp(awac_beta * (Q - V))
    awac_beta: float = 3.0  # of awac: 0 imitates, large numbers take the best actions alone
    max_weight: float = 100.0  # of awac: where a token's weight is cut
    bootstrap_truncated: bool = False  # what a token limit cut off goes on with V, not with 0
    minibatches: int = 1  # optimiser steps of a loop step

    def __post_init__(self) -> None:
        shares = {"gamma": (self.gamma, 0, 1), "target_tau": (self.target_tau, 0, 1), "lam": (self.lam, 0.5, 1)}
        shares |= {"tau": (self.tau, 0, 1)}
        for name, (value, low, high) in shares.items():
            if not low < value <= high or (name == "tau" and value == 1):
                raise ValueError(
                    f"{name} {value}: expected above {low} and {'below' if name == 'tau' else 'at most'} 1"
                )
        for name in ("gumbel_beta", "gumbel_clip", "max_weight", "huber"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} {value}: expected above 0")
        least = {"cql_weight": 0, "awac_beta": 0, "head_width": 0, "minibatches": 1}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least {bound}")
        if self.monte_carlo and self.bootstrap_truncated:
            raise ValueError("bootstrap_truncated: a return that came has no V; expected monte_carlo: false")

    def models(self) -> Mapping[str, ModelSpec]:
        """A critic with a number of each state, and two of each token that could follow it."""
        heads = {"v": {"name": "scalar", "width": self.head_width}}
        heads |= {name: {"name": "vocabulary", "width": self.head_width} for name in ACTIONS}
        return {"critic": ModelSpec(trunk=self.trunk, heads=heads, target_tau=self.target_tau, target=self.target)}

    def needs(self) -> frozenset[Column]:
        """Q and V before the step, where a weight of the whole step is made of them."""
        asked = self.policy == "awac" or self.value_loss == "gumbel"
        return frozenset({"values", "action_values"} if asked else ())

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Reward and discount of each action token, for the critic; its weight in the imitation, as `advantages`.

        Answers that were not scored leave the mean.
        """
        kept = [row for row in samples if not isnan(row.reward)]
        rows = [row for group in by_group(kept) for episode in group for row in self._earned(episode)]
        rows = [row.assign(advantages=self._weights(row)) for row in rows if row.actions]
        if self.value_loss == "gumbel":
            rows = self._rescaled(rows)
        return average(rows, "token")

    def updates(self, step: int) -> Sequence[Update]:
        """The critic, then the policy."""
        return [
            Update("critic", self.critic_loss, minibatches=self.minibatches),
            Update("policy", self.loss, minibatches=self.minibatches),
        ]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Negative log-likelihood of each token, times its weight."""
        nll = -new.logprobs
        return Loss(batch.advantages * nll, {"nll": nll.detach(), **entropy_metric(new)})

    def critic_loss(self, new: Forward, batch: Batch) -> Loss:
        """Bellman errors of both Q, the implicit loss of V against the lesser Q, and the conservative term."""
        values, aim = new.heads["v"], self._aim(new, batch).detach()
        bellman = 0.5 * (new.heads["q1"] - aim).square() + 0.5 * (new.heads["q2"] - aim).square()
        if self.huber is not None:
            errors = [huber_loss(new.heads[name], aim, reduction="none", delta=self.huber) for name in ACTIONS]
            bellman = errors[0] + errors[1]
        gap = new.action_values.detach() - values
        implicit = self._implicit(gap, batch)
        conservative = -(new.head_logprobs["q1"] + new.head_logprobs["q2"])
        terms = bellman + implicit + self.cql_weight * conservative
        metrics = {"loss/q": bellman, "loss/v": implicit, "loss/cql": conservative, "values": values}
        metrics |= {"action_values": new.action_values, "gap": gap, "gap/positive": (gap > 0).to(gap.dtype)}
        metrics["td_error"] = new.heads["q1"] - aim
        return Loss(terms, {name: numbers.detach() for name, numbers in metrics.items()})

    def metrics(self, rows: Sequence[Sample]) -> Mapping[str, float]:
        """Answers that are learned from, and the largest share of a token in the imitation."""
        weights = [row.advantages[row.action_mask] for row in rows]
        total = sum(float(own.sum()) for own in weights)
        largest = max((float(own.max()) for own in weights), default=0.0)
        return {"ilql/answers": float(len(rows)), "ilql/largest_share": largest / total if total else 0.0}

    def _aim(self, new: Forward, batch: Batch) -> Tensor:
        """(B, T) reward of each action, and the discounted V of the state in which the next one is taken."""
        return batch.rewards + batch.discounts * following(new.heads["v"], new.next_heads["v"], batch)

    def _implicit(self, gap: Tensor, batch: Batch) -> Tensor:
        """(B, T) loss of V by the gap of Q and V."""
        if self.value_loss == "expectile":
            return 0.5 * expectile(gap, self.tau)
        if self.value_loss == "gumbel":
            scale = batch.number("gumbel_scale")[batch.sample_ids.clamp(min=0)]
            return scale * gumbel(gap, self.gumbel_beta, self.gumbel_clip)
        return (total_variation if self.value_loss == "tv" else chi_square)(gap, self.lam)

    def _earned(self, episode: Episode) -> list[Sample]:
        """The rows of an episode with `rewards` and `discounts`."""
        if not any(row.actions for row in episode):
            return []
        track = episode_sequence(episode)
        if self.monte_carlo:
            came = returns(track.total, track.mask, gamma=self.gamma)
            return track.assign(rewards=came, discounts=np.zeros(len(came)))
        discounts = np.where(track.mask, self.gamma, 0.0)
        if not (self.bootstrap_truncated and any(row.cut_off for row in episode)):
            discounts[track.mask.nonzero()[0][-1]] = 0.0
        return track.assign(rewards=track.total, discounts=discounts)

    def _weights(self, row: Sample) -> float | Array:
        """Weight of each token in the imitation."""
        if self.policy == "bc":
            return 1.0
        apart = self.awac_beta * (row.action_values.astype(np.float64) - row.values)
        weights: Array = np.exp(np.minimum(apart, np.log(self.max_weight)))
        return weights

    def _rescaled(self, rows: Sequence[Sample]) -> list[Sample]:
        """The rows with `gumbel_scale`, which brings the step's largest term near 1 and moves no minimum."""
        gaps = [(row.action_values - row.values)[row.action_mask] for row in rows]
        most = max((float(gap.max()) for gap in gaps), default=0.0) / self.gumbel_beta
        scale = exp(-max(-1.0, min(most, self.gumbel_clip)))
        return [row.with_numbers(gumbel_scale=scale) for row in rows]


plugin = ILQL
