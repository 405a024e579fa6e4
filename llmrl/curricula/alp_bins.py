"""Absolute learning progress over bins of a feature: what is being learned, or forgotten, is drawn more often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrl.datafiles.features import LENGTH, features
from llmrl.ops.curriculum import FLOOR, smoothed
from llmrl.samples import Array
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class AlpBins:
    """Draws a bin in proportion to `|fast mean - slow mean|` of its pass rates, then any of its problems."""

    random_share: float = 0.2  # of the draws, over all problems
    feature: str = LENGTH  # length, pass_rate, or a key of `Problem.info` with numbers
    records: str | None = None  # a file of `llmrl eval --samples 16`, for the feature pass_rate
    bins: int = 20  # with about as many problems each
    fast_half_life: float = 2.0  # visits of a bin
    slow_half_life: float = 10.0

    def __post_init__(self) -> None:
        if self.bins < 2 or not 0 <= self.random_share <= 1:
            raise ValueError("bins must be at least 2, random_share from 0 to 1")
        if not 0 < self.fast_half_life < self.slow_half_life:
            raise ValueError("fast_half_life must be above 0 and below slow_half_life")

    def start(self, problems: Sequence[Problem]) -> Bins:
        values = features(problems, [self.feature], self.records)[:, 0]
        edges = np.quantile(values, np.arange(1, self.bins) / self.bins)
        _, own = np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)  # bins may be empty
        return Bins(self, own)


@dataclass
class Bins:
    """Two running means of the pass rates of each bin; an unknown bin has none."""

    options: AlpBins
    own: Array  # (n,) the bin of each problem
    fast: dict[int, float] = field(default_factory=dict)
    slow: dict[int, float] = field(default_factory=dict)
    visits: dict[int, int] = field(default_factory=dict)

    def progress(self) -> Array:
        """(bins,) absolute learning progress; a bin with a single visit, or none, has that of the best."""
        count = int(self.own.max()) + 1
        known = {bin: abs(self.fast[bin] - self.slow[bin]) for bin, visits in self.visits.items() if visits > 1}
        most = max(known.values(), default=FLOOR)
        return np.maximum([known.get(bin, most) for bin in range(count)], FLOOR)

    def weights(self) -> Array:
        """A problem's share of its bin's progress."""
        return np.asarray(self.progress() / np.bincount(self.own))[self.own]

    def observe(self, outcomes: Sequence[tuple[int, float]]) -> dict[str, float]:
        for problem, rate in outcomes:
            bin = int(self.own[problem])
            self.visits[bin] = self.visits.get(bin, 0) + 1
            self.fast[bin] = smoothed(self.fast.get(bin, rate), rate, self.options.fast_half_life)
            self.slow[bin] = smoothed(self.slow.get(bin, rate), rate, self.options.slow_half_life)
        progress = self.progress()
        return {"curriculum/progress": float(progress.mean()), "curriculum/best_bin": float(progress.argmax())}

    def state(self) -> Mapping[str, Any]:
        return {
            name: [[bin, value] for bin, value in getattr(self, name).items()] for name in ("fast", "slow", "visits")
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, pairs in state.items():
            setattr(self, name, {int(bin): value for bin, value in pairs})


plugin = AlpBins
