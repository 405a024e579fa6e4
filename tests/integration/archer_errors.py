"""Errors planted in ArCHer, for `test_planted_errors.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrl.algorithms.archer import ArCHer
from llmrl.batch import Batch
from llmrl.ops.turn_terms import at_turn_start, turn_bounds
from llmrl.protocols import Forward, ModelSpec
from llmrl.samples import Sample


@dataclass(frozen=True, kw_only=True)
class CopyStands(ArCHer):
    def models(self) -> Mapping[str, ModelSpec]:
        return {name: replace(spec, target_tau=0.0) for name, spec in super().models().items()}


@dataclass(frozen=True, kw_only=True)
class LesserTarget(ArCHer):
    def aim(self, new: Forward, batch: Batch, v: str) -> Tensor:
        return torch.minimum(super().aim(new, batch, "v1"), super().aim(new, batch, "v2"))


@dataclass(frozen=True, kw_only=True)
class EndIgnored(ArCHer):
    def aim(self, new: Forward, batch: Batch, v: str) -> Tensor:
        ends = (batch.q_weights > 0) & (batch.discounts == 0)
        return super().aim(new, batch, v) + self.gamma * ends * at_turn_start(new.target_heads[v], batch)


@dataclass(frozen=True, kw_only=True)
class ReplyUnread(ArCHer):
    def aim(self, new: Forward, batch: Batch, v: str) -> Tensor:
        return batch.rewards + batch.discounts * new.next_target_heads[v]


@dataclass(frozen=True, kw_only=True)
class RewardFirst(ArCHer):
    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        rows = []
        for row in super().credit(samples):
            first, last = turn_bounds(row.turn_ids)
            rewards = np.zeros(len(row.turn_ids))
            rewards[first] = row.rewards[last]
            rows.append(row.assign(rewards=rewards))
        return rows


@dataclass(frozen=True, kw_only=True)
class ProposalsAnswered(ArCHer):
    def bellman(self, row: Sample) -> bool:
        return True


ERRORS: list[tuple[str, type[Any], str, str]] = [
    ("the copy of the critic never moves", CopyStands, "archer", "learning"),
    ("the lesser of both copies is the target of both Q", LesserTarget, "archer", "oracle"),
    ("V of the last state follows an episode that has ended", EndIgnored, "archer", "oracle, learning"),
    ("V is read before the environment has replied", ReplyUnread, "archer", "oracle, learning"),
    ("the reward of a turn stands on its first token", RewardFirst, "archer", "oracle"),
    ("Q learns from turns that no environment has answered", ProposalsAnswered, "archer", "oracle, learning"),
]
