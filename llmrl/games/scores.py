"""Normalised scores of returns, by which tasks of different scales are compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Returns of a task: the least, the mean of a data set of demonstrations, and the greatest.

    Source: LMRL-Gym (arXiv 2311.18232), section 5.
    """

    low: float
    mean: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.mean < self.high:
            raise ValueError(f"scale {self.low:g}, {self.mean:g}, {self.high:g}: expected numbers that rise")

    def score(self, value: float) -> float:
        """Map a return linearly: 0 at `low`, 50 at `mean`, 100 at `high`; below and above it goes on."""
        if value < self.mean:
            return 50.0 * (value - self.low) / (self.mean - self.low)
        return 50.0 + 50.0 * (value - self.mean) / (self.high - self.mean)
