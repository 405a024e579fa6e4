"""ArCHer: a critic of whole turns, whose advantages train the tokens of each turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch

from llmrl.algorithms.archer.options import ArCHerOptions
from llmrl.algorithms.archer.transitions import averaged, require_whole, transitions, whitened
from llmrl.ops.gae import RunningMoments, explained_variance
from llmrl.ops.implicit_values import expectile
from llmrl.ops.kl import k3
from llmrl.ops.losses import clip_metrics, clipped_surrogate, entropy_metric, following
from llmrl.ops.mismatch import require_scaled
from llmrl.ops.turn_terms import at_turn_start, turn_bounds, turn_sum
from llmrl.ops.turns import earned_by_turn, turn_returns
from llmrl.protocols import Column, Forward, Loss, ModelSpec, Update
from llmrl.samples import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch

PAIRS = (("q1", "v1"), ("q2", "v2"))
"""Heads of Q and V that learn from each other's copies, and from no other."""


def least_value(new: Forward) -> Tensor:
    """(B, T) the lesser V of the state before each token."""
    return torch.minimum(new.heads["v1"], new.heads["v2"])


def least_action_value(new: Forward) -> Tensor:
    """(B, T) the lesser Q of the turn so far, each token included."""
    return torch.minimum(new.next_heads["q1"], new.next_heads["q2"])


def expected_advantage(new: Forward) -> Tensor:
    """(B, T) the token baseline."""
    return new.heads["w"]


@dataclass(frozen=True, kw_only=True)
class ArCHer(ArCHerOptions):
    """A turn is good if Q of it exceeds V of the state before it (arXiv 2402.19446; docs/algorithms/archer.md)."""

    def models(self) -> Mapping[str, ModelSpec]:
        """A critic with two Q and two V of turns, followed by a copy."""
        names = [name for pair in PAIRS for name in pair] + ["w"] * self.token_baseline
        columns = {"values": least_value, "next_values": least_action_value}
        columns |= {"baselines": expected_advantage} if self.token_baseline else {}
        spec = ModelSpec(
            trunk=self.trunk,
            heads={name: {"name": "scalar", "width": self.head_width} for name in names},
            target_tau=self.target_tau,
            target="heads" if self.trunk == "reference" else "model",
            columns=columns,
        )
        return {"critic": spec}

    def needs(self) -> frozenset[Column]:
        """Q and V before the step, the token baseline, and the reference where it is in the loss."""
        columns = {"values", "next_values"} | ({"baselines"} if self.token_baseline else set())
        return frozenset(columns | ({"ref_logprobs"} if self.actor_loss == "pg_kl" else set()))

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Rewards, discounts and advantages of turns, and three averages over them.

        Q learns from the turns that an environment has answered, but for the last of an episode that a limit cut off.
        V and the policy learn from turns of the policy as it stands, or, with `expectile` and `awr`, from answered
        ones. Episodes that nobody could judge (reward NaN) leave all of them.

        Raises:
            RecipeError: an episode takes several samples, or the engine's log-probabilities cannot be compared.
        """
        if self.actor_loss == "ppo_clip":
            require_scaled(samples)
        rows = [row for row in samples if row.actions and (row.origin == "proposal" or not isnan(row.reward))]
        require_whole(rows)
        rows = [transitions(row, self) for row in rows]
        return averaged(whitened(rows, self) if self.whiten_advantages else rows, self)

    def updates(self, step: int) -> Sequence[Update]:
        """The critic, then, after its warm-up, the policy."""
        critic = Update("critic", self.critic_loss, minibatches=self.critic_steps)
        policy = Update("policy", self.loss, self.actor_epochs, self.actor_steps, rows=self.acts)
        return [critic] if step < self.critic_warmup else [critic, policy]

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Policy gradient of each token by the advantage of its turn."""
        terms, metrics = -batch.advantages * new.logprobs, entropy_metric(new)
        if self.actor_loss == "ppo_clip":
            ours, old = new.logprobs, batch.sampled_logprobs
            if self.ratio_level == "turn":
                ours, old = turn_sum(ours, batch), turn_sum(old, batch)
            terms = clipped_surrogate(ours, old, batch.advantages, self.epsilon, self.epsilon)
            metrics |= clip_metrics(ours, old, batch.advantages, self.epsilon, self.epsilon)
        if self.actor_loss == "pg_kl":
            apart = turn_sum(new.logprobs.detach() - batch.ref_logprobs, batch)
            terms = (1 - self.kl_coef) * terms + self.kl_coef * (apart + 1) * new.logprobs
            metrics["kl"] = k3(new.logprobs.detach(), batch.ref_logprobs)
        return Loss(terms, {**metrics, "nll": -new.logprobs.detach()})

    def critic_loss(self, new: Forward, batch: Batch) -> Loss:
        """Squared Bellman errors of both Q, errors of both V, and that of the token baseline."""
        metrics: dict[str, Tensor] = {}
        for q, v in PAIRS:
            aim, before = self.aim(new, batch, v).detach(), at_turn_start(new.heads[v], batch)
            gap = new.next_target_heads[q].detach() - before
            error = gap.square() if self.v_target == "policy_sample" else expectile(gap, self.expectile)
            metrics |= {f"loss/{q}": batch.q_weights * (new.next_heads[q] - aim).square()}
            metrics |= {f"loss/{v}": batch.v_weights * error, v: batch.v_weights * before}
            metrics |= {q: batch.q_weights * new.next_heads[q], f"{q}_target": batch.q_weights * aim}
        if self.token_baseline:
            share = batch.number("baseline_share")[batch.sample_ids.clamp(min=0)]
            metrics["loss/baseline"] = share * (batch.returns - new.heads["w"]).square()
        terms = torch.stack([part for name, part in metrics.items() if name.startswith("loss/")]).sum(0)
        return Loss(terms, {name: numbers.detach() for name, numbers in metrics.items()})

    def aim(self, new: Forward, batch: Batch, v: str) -> Tensor:
        """(B, T) reward of the turn, and the discounted V of the state in which the next one begins, by the copy."""
        after = following(new.target_heads[v], new.next_target_heads[v], batch)
        return batch.rewards + batch.discounts * after

    def metrics(self, rows: Sequence[Sample]) -> Mapping[str, float]:
        """Q, V and advantages of the step's own episodes, and their distance from the returns that came of them."""
        seen = {name: RunningMoments() for name in ("q", "v", "advantages", "returns", "overestimate", "errors")}
        fresh = [row for row in rows if row.origin == "fresh"]
        for row in fresh:
            first, last = turn_bounds(row.turn_ids)
            q, v = row.next_values[last].astype(np.float64), row.values[first].astype(np.float64)
            parts = {"q": q, "v": v, "advantages": q - v}
            if row.status == "done":
                came = np.asarray(turn_returns(earned_by_turn([row]), self.gamma))[row.turn_ids[last]]
                parts |= {"returns": came, "overestimate": q - came, "errors": came - v}
            for name, part in parts.items():
                seen[name].add(part)
        explained = explained_variance(seen["returns"], seen.pop("errors"))
        numbers: dict[str, float] = {} if explained is None else {"explained_variance": explained}
        for name, moments in seen.items():
            if moments.count:
                numbers |= {f"{name}/mean": moments.mean, f"{name}/std": sqrt(moments.variance)}
        return numbers | ({"archer/cut": sum(row.status != "done" for row in fresh) / len(fresh)} if fresh else {})


plugin = ArCHer
