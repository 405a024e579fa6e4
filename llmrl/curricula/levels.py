"""Problems by level: those of one level, until it is passed often enough; then the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from llmrl.errors import DataError
from llmrl.samples import Array
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Draws problems of the present level, a number in `Problem.info`, from the lowest on; docs/curricula.md."""

    random_share: float = 0.1  # of the draws, over all problems: the last level is never out of sight
    key: str = "level"  # of Problem.info
    threshold: float = 0.8  # mean pass rate at which the next level begins
    window: int = 100  # outcomes of the level over which it is taken; fewer never suffice

    def __post_init__(self) -> None:
        if not 0 <= self.random_share <= 1 or not 0 < self.threshold <= 1 or self.window < 1:
            raise ValueError("random_share must be from 0 to 1, threshold above 0 and at most 1, window at least 1")

    def start(self, problems: Sequence[Problem]) -> Climb:
        """Begin at the lowest level.

        Raises:
            DataError: a problem has no level.
        """
        levels = [problem.info.get(self.key) for problem in problems]
        for problem, level in zip(problems, levels, strict=True):
            if not isinstance(level, int | float):
                raise DataError(
                    f"problem {problem.id}: no number {self.key!r} in its info, which curriculum levels reads"
                )
        return Climb(self, np.array(levels, float))


@dataclass
class Climb:
    """The present level, and the latest outcomes of its problems."""

    options: Levels
    levels: Array  # (problems,)
    rung: int = 0  # which of the levels that occur, from the lowest
    outcomes: list[float] = field(default_factory=list)

    def weights(self) -> Array:
        """1 for problems of the present level, else 0."""
        return np.asarray(self.levels == self._present, float)

    def observe(self, outcomes: Sequence[tuple[int, float]]) -> dict[str, float]:
        of_level = [rate for problem, rate in outcomes if self.levels[problem] == self._present]
        self.outcomes = [*self.outcomes, *of_level][-self.options.window :]
        metrics = {"curriculum/level": self._present}
        if self.outcomes:
            metrics["curriculum/level_pass_rate"] = fmean(self.outcomes)
        is_full = len(self.outcomes) == self.options.window
        if is_full and fmean(self.outcomes) >= self.options.threshold and self.rung + 1 < len(np.unique(self.levels)):
            self.rung, self.outcomes = self.rung + 1, []
        return metrics

    def state(self) -> Mapping[str, Any]:
        return {"rung": self.rung, "outcomes": list(self.outcomes)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.rung, self.outcomes = state["rung"], list(state["outcomes"])

    @property
    def _present(self) -> float:
        return float(np.unique(self.levels)[self.rung])


plugin = Levels
