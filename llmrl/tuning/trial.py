"""A trial of a search, as a line of its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from llmrl.tuning.space import Params


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that has ended: its settings, and its objectives by seed, None where a run has failed."""

    number: int
    params: Params
    overrides: Sequence[str]
    values: Sequence[Sequence[float]] | None

    @property
    def means(self) -> list[float]:
        """Each objective, averaged over the seeds."""
        return [fmean(of_seeds) for of_seeds in zip(*(self.values or ()), strict=True)]
