"""Errors planted in WebRL, for `test_planted_errors.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np

from llmrl.algorithms.webrl import WebRL
from llmrl.batch import Batch
from llmrl.protocols import Forward, Loss
from llmrl.samples import Array, Sample


@dataclass(frozen=True, kw_only=True)
class OldReference(WebRL):
    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        return super().credit([row.assign(ref_logprobs=-log(3)) for row in samples])


@dataclass(frozen=True, kw_only=True)
class EndHasValue(WebRL):
    def _advantages(self, values: Array, outcome: float) -> Array:
        behind = np.zeros(len(values))
        behind[-1] = self.lam * values[-1]
        return super()._advantages(values, outcome) + behind


@dataclass(frozen=True, kw_only=True)
class MeanOfTokens(WebRL):
    def loss(self, new: Forward, batch: Batch) -> Loss:
        return super(MeanOfTokens, replace(self, normalize="mean_token")).loss(new, batch)


@dataclass(frozen=True, kw_only=True)
class FailuresPositive(WebRL):
    def loss(self, new: Forward, batch: Batch) -> Loss:
        return super().loss(new, batch.with_columns(advantages=batch.advantages.abs()))


@dataclass(frozen=True, kw_only=True)
class SampleAlone(WebRL):
    def credit(self, samples: Sequence[Sample]) -> list[Sample]:
        apart = [replace(row, group=f"{row.group}/{row.turn_ids.max()}") for row in samples]
        return super().credit(apart)


ERRORS: list[tuple[str, type[Any], str, str]] = [
    ("the reference stays that of the first phase", OldReference, "webrl", "oracle, invariances, learning"),
    ("V of the last state follows an episode that has ended, once more", EndHasValue, "webrl", "oracle, learning"),
    ("the mean over a turn's tokens in place of the sum", MeanOfTokens, "webrl", "oracle, learning"),
    ("turns of failures are not masked", FailuresPositive, "webrl_released", "oracle, learning"),
    ("the state behind a turn is not looked for in the next sample", SampleAlone, "webrl", "invariances, learning"),
]
