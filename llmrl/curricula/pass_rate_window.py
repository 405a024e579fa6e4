"""Problems that the policy solves sometimes: those whose pass rate lies in a window, and those not tried yet."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from llmrl.datafiles.pass_rates import pass_rates
from llmrl.ops.curriculum import smoothed
from llmrl.samples import Array
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class PassRateWindow:
    """Draws problems whose pass rate, smoothed over visits, is from `low` to `high`; docs/curricula.md."""

    random_share: float = 0.2  # of the draws, over all problems: it finds what has come into the window
    low: float = 0.2
    high: float = 0.8
    half_life: float = 2.0  # visits after which an outcome counts half
    records: str | None = None  # a file of `llmrl eval --samples 16` with pass rates to begin with

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low {self.low}, high {self.high}: expected from 0 to 1, low below high")
        if not 0 <= self.random_share <= 1 or not self.half_life > 0:
            raise ValueError("random_share must be from 0 to 1, half_life above 0")

    def start(self, problems: Sequence[Problem]) -> Window:
        known = pass_rates(Path(self.records)) if self.records is not None else {}
        return Window(self, array("d", [float(known.get(problem.id, nan)) for problem in problems]))


@dataclass
class Window:
    """The pass rate of each problem so far; NaN where it was not tried."""

    options: PassRateWindow
    rates: array[float]

    def weights(self) -> Array:
        """1 in the window and where nothing is known, else 0."""
        rates = np.array(self.rates)
        inside = (rates >= self.options.low) & (rates <= self.options.high)
        return np.asarray(inside | np.isnan(rates), float)

    def observe(self, outcomes: Sequence[tuple[int, float]]) -> dict[str, float]:
        for problem, rate in outcomes:
            before = self.rates[problem]
            known = before == before
            self.rates[problem] = smoothed(before, rate, self.options.half_life) if known else rate
        seen = [rate for rate in self.rates if rate == rate]
        inside = [self.options.low <= rate <= self.options.high for rate in seen]
        metrics = {"curriculum/tried": len(seen) / len(self.rates)}
        return metrics | ({"curriculum/in_window": fmean(inside)} if inside else {})

    def state(self) -> Mapping[str, Any]:
        return {"rates": self.rates[:]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.rates = state["rates"][:]


plugin = PassRateWindow
