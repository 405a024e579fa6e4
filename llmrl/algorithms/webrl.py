"""WebRL: success and failure of whole episodes, spread over turns by a critic, and a regression to log-ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal
from zlib import crc32

import numpy as np
import torch

from llmrl.ops.credit import Episode, by_group
from llmrl.ops.judgement import brier, roc_auc
from llmrl.ops.kl import k3
from llmrl.ops.losses import entropy_metric
from llmrl.ops.turn_terms import turn_bounds, turn_sum
from llmrl.ops.turns import turn_returns
from llmrl.ops.webrl import (
    binarised,
    instructive,
    mean_probability,
    next_and_outcome,
    raw_advantages,
    released_terms,
    squared_gap,
)
from llmrl.protocols import Column, Forward, Loss, ModelSpec, Update
from llmrl.samples import Array, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from llmrl.batch import Batch

HEADS = ("v1", "v2")
DISCOUNT = 0.9
"""Of a turn in the return of the released code; with outcomes of 0 or 1 no other gives an advantage another sign."""
Turn = tuple[int, int]
"""Place of a sample among those of a step, and of a turn among its own."""


def least_value(new: Forward) -> Tensor:
    """(B, T) the lesser probability of success in the state before each token."""
    return torch.minimum(*(new.heads[name] for name in HEADS))


@dataclass(frozen=True, kw_only=True)
class WebRL:
    """Regress log-ratios to the advantage of each turn (arXiv 2411.02337; docs/algorithms/webrl.md).

    The reference is the policy at the start of a phase.
    """

    form: Literal["paper", "released"] = "paper"  # objective and advantage, of the paper or of its code
    beta: float = 1.0  # of paper: log-ratios go to the advantage / beta
    lam: float = 0.5  # of paper: share of the next state's value in the advantage; the rest has the outcome
    normalize: Literal["sum", "mean_token"] = "sum"  # of paper: log-ratio of a turn, or its mean over tokens
    min_reward: float = 0.0  # episodes with a reward above it have succeeded
    replay_low: float = 0.5  # a replayed turn teaches if its mean probability by the policy is above this
    replay_high: float = 0.95  # and at most this; 0 and 1: all do, without a pass of the policy
    replay_ratio: float = 2.0  # replayed turns at most, for each fresh one
    critic_warmup: int = 0  # first steps, in which the critic learns alone
    critic_epochs: int = 1  # passes of the critic over a step's turns
    critic_minibatches: int = 1  # optimiser steps in each of them
    epochs: int = 1  # passes of the policy
    minibatches: int = 1  # optimiser steps in each of them
    head_width: int = 1  # of the critic's hidden layer, in widths of the trunk; 0: linear heads

    def __post_init__(self) -> None:
        if not self.beta > 0 or (self.form == "released" and self.beta != 1):
            raise ValueError(f"beta {self.beta}: expected above 0, and 1 with form released, which has its own")
        if self.form == "released" and self.normalize != "sum":
            raise ValueError(f"normalize {self.normalize}: form released has its own; leave it out")
        if not 0 <= self.lam <= 1:
            raise ValueError(f"lam {self.lam}: expected from 0 to 1")
        if not 0 <= self.replay_low < self.replay_high <= 1 or not self.replay_ratio >= 0:
            raise ValueError(
                f"replay_low {self.replay_low}, replay_high {self.replay_high}, replay_ratio {self.replay_ratio}: "
                "expected probabilities, the first below the second, and a ratio of at least 0"
            )
        least = {"critic_warmup": 0, "critic_epochs": 1, "critic_minibatches": 1, "epochs": 1, "minibatches": 1}
        for name, bound in (least | {"head_width": 0}).items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least {bound}")

    bounds_rewards: ClassVar[bool] = True  # success is a reward above a bound

    def models(self) -> Mapping[str, ModelSpec]:
        """A critic with two probabilities of success."""
        head = {"name": "bernoulli", "width": self.head_width}
        return {"critic": ModelSpec(heads=dict.fromkeys(HEADS, head), columns={"values": least_value})}

    def needs(self) -> frozenset[Column]:
        """V and the reference; the policy before the step, where replayed turns are chosen by it."""
        return frozenset({"values", "ref_logprobs"} | ({"old_logprobs"} if self._asks_policy else set()))

    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        """Advantage of each turn at its tokens, the outcome as `returns`; a turn weighs 1/N, N of all that teach.

        Fresh turns teach, and replayed ones of successes that the policy finds neither too likely nor too surprising.
        Episodes that nobody could judge (reward NaN) and turns that no environment has answered leave.
        """
        judged = [row for row in samples if row.actions and row.origin != "proposal" and not isnan(row.reward)]
        kept = [row for row in judged if row.origin != "replay" or self.succeeded(row)]
        rows = [row for group in by_group(kept) for episode in group for row in self._credited(episode)]
        chosen = self._teaching(rows)
        made = (self._weighted(row, [u for at, u in chosen if at == i], len(chosen)) for i, row in enumerate(rows))
        return [row for row in made if row.weights.any()]

    def succeeded(self, row: Sample) -> bool:
        """True of a sample whose episode has succeeded."""
        return row.reward > self.min_reward

    def updates(self, step: int) -> Sequence[Update]:
        """The critic, then, after its warm-up, the policy."""
        critic = Update("critic", self.critic_loss, self.critic_epochs, self.critic_minibatches)
        policy = Update("policy", self.loss, self.epochs, self.minibatches)
        return [critic] if step < self.critic_warmup else [critic, policy]

    def critic_loss(self, new: Forward, batch: Batch) -> Loss:
        """Cross-entropy of both heads with the outcome, in the state before each turn."""
        terms = {f"loss/{name}": new.head_losses[name](batch.returns) for name in HEADS}
        numbers = {name: new.heads[name].detach() for name in HEADS}
        detached = {name: term.detach() for name, term in terms.items()}
        return Loss(torch.stack(list(terms.values())).sum(0), {**detached, **numbers})

    def loss(self, new: Forward, batch: Batch) -> Loss:
        """Distance of each turn's log-ratio to the reference from its advantage; every token of a turn has it."""
        length = turn_sum(torch.ones_like(new.logprobs), batch)
        log_ratio = turn_sum(new.logprobs - batch.ref_logprobs, batch)
        if self.form == "released":
            ref_probability = (turn_sum(batch.ref_logprobs, batch) / length).exp()
            terms = released_terms(log_ratio / length, batch.advantages, ref_probability)
        else:
            scaled = log_ratio if self.normalize == "sum" else log_ratio / length
            terms = squared_gap(scaled, batch.advantages, self.beta)
        apart = log_ratio.detach()
        beyond = ((self.beta * apart).abs() > 1).to(apart.dtype)
        metrics = {"log_ratio": apart, "log_ratio_above_1": beyond, "advantages": batch.advantages}
        by_token = {"kl": k3(new.logprobs.detach(), batch.ref_logprobs), **entropy_metric(new)}
        means = {name: turn_sum(numbers, batch) / length for name, numbers in by_token.items()}
        return Loss(terms, metrics | means)

    def metrics(self, rows: Sequence[Sample]) -> Mapping[str, float]:
        """Success, what was replayed, and how well V before the step's updates tells success from failure."""
        fresh = [row for row in rows if row.origin != "replay"]
        replayed = sum(int((row.weights > 0).sum()) for row in rows if row.origin == "replay")
        turns = sum(int((row.weights > 0).sum()) for row in rows)
        numbers = {"webrl/replayed": replayed / turns if turns else 0.0}
        if not fresh:
            return numbers
        starts = [(row, turn_bounds(row.turn_ids)[0]) for row in fresh]
        values = np.concatenate([row.values[first] for row, first in starts]).tolist()
        outcomes = [self.succeeded(row) for row, first in starts for _ in first]
        numbers["webrl/success"] = fmean(self.succeeded(e[0]) for g in by_group(fresh) for e in g)
        numbers["webrl/brier"] = brier(values, outcomes)
        told = roc_auc(values, outcomes)
        return numbers if told is None else {**numbers, "webrl/auc": told}

    @property
    def _asks_policy(self) -> bool:
        return (self.replay_low, self.replay_high) != (0.0, 1.0)

    def _credited(self, episode: Episode) -> Iterator[Sample]:
        """The samples of an episode with their advantages; the state behind a turn may begin its next sample."""
        starts = [
            (row.turn_ids[first], row.values[first]) for row in episode for first in [turn_bounds(row.turn_ids)[0]]
        ]
        turns, values = (np.concatenate(parts) for parts in zip(*starts, strict=True))
        order = np.argsort(turns)  # turns of a branch may lie in a sample of their own
        outcome = float(self.succeeded(episode[0]))
        by_turn = np.zeros(int(turns.max()) + 1)
        by_turn[turns[order]] = self._advantages(values[order].astype(np.float64), outcome)
        for row in sorted(episode, key=lambda row: int(row.turn_ids.max())):
            yield row.assign(advantages=np.where(row.action_mask, by_turn[row.turn_ids], 0.0), returns=outcome)

    def _advantages(self, values: Array, outcome: float) -> Array:
        if self.form == "paper":
            return next_and_outcome(values, outcome, self.lam)
        rewards = np.full(len(values), outcome)  # every turn has that of the episode
        returns = np.array(turn_returns(rewards.tolist(), DISCOUNT))
        return binarised(raw_advantages(values, np.append(values[1:], 0.0), rewards, returns))

    def _teaching(self, rows: Sequence[Sample]) -> list[Turn]:
        """Fresh turns, and those of the replayed ones that teach; the order of samples does not matter."""
        turns = [(i, u) for i, row in enumerate(rows) for u in range(len(turn_bounds(row.turn_ids)[0]))]
        fresh = [turn for turn in turns if rows[turn[0]].origin != "replay"]
        replayed = [(i, u) for i, u in turns if rows[i].origin == "replay" and self._teaches(rows[i], u)]
        replayed.sort(key=lambda turn: _lot(rows[turn[0]], turn[1]))
        most = int(self.replay_ratio * len(fresh)) if fresh else len(replayed)
        return fresh + replayed[:most]

    def _teaches(self, row: Sample, u: int) -> bool:
        """True of a replayed turn in the window of probabilities."""
        if not self._asks_policy:
            return True
        first, _ = turn_bounds(row.turn_ids)
        inside = row.turn_ids == row.turn_ids[first[u]]
        return instructive(mean_probability(row.old_logprobs[inside]), self.replay_low, self.replay_high)

    def _weighted(self, row: Sample, turns: Sequence[int], count: int) -> Sample:
        """Each turn that teaches has a term of the policy at its last token, and one of the critic at its first."""
        first, last = turn_bounds(row.turn_ids)
        weights, value_weights = np.zeros(len(row.turn_ids)), np.zeros(len(row.turn_ids))
        weights[last[list(turns)]] = value_weights[first[list(turns)]] = 1 / max(count, 1)
        return row.assign(weights=weights, value_weights=value_weights)


def _lot(row: Sample, u: int) -> tuple[int, str]:
    """A place in an order that depends on the turn alone."""
    name = f"{row.group}/{row.episode}/{row.turn_ids.max()}/{u}"
    return crc32(name.encode()), name


plugin = WebRL
