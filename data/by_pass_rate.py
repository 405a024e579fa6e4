"""A dataset around another: problems repeated by a policy's pass rate, the easy ones left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from llmrl.datafiles.pass_rates import pass_rates
from llmrl.errors import DataError
from llmrl.plugins import build
from llmrl.recipe.ranges import Share
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class ByPassRate:
    """Problems repeated more often the harder they are; the defaults are those of OREAL (arXiv 2502.06781).

    `records` is the `<benchmark>.jsonl` that `llmrl eval --samples 16` wrote of the same problems. Rates from 0 to
    `below` are cut into as many equal bins as there are `repeats`; a rate on a border belongs to the bin above it. A
    problem whose bin has 0 repeats, or whose rate is `below` or more, is left out.
    """

    of: Mapping[str, Any] = field(hash=False)  # a dataset and its options
    records: str  # a file of judged completions; those that could not be judged do not count
    repeats: Sequence[int] = field(default=(6, 4, 4, 2), hash=False)  # of each bin, the hardest first
    below: Share = 0.8
    missing: Literal["error", "drop"] = "error"  # for problems without a judged completion

    def __post_init__(self) -> None:
        if not self.repeats or any(times < 0 for times in self.repeats) or not any(self.repeats):
            raise ValueError(f"repeats {list(self.repeats)}: expected counts of at least 0, one of them above")
        if not 0 < self.below <= 1:
            raise ValueError(f"below {self.below}: expected above 0 and at most 1")

    def problems(self) -> Iterator[Problem]:
        """Yield the problems in order, the whole list once for each repeat; copies have ids ending in `#2`, `#3` ...

        Raises:
            DataError: the records cannot be read, or lack a problem, or no problem is left.
        """
        rates = pass_rates(Path(self.records))
        given = list(build("data", self.of, "data.of").problems())
        unknown = [problem.id for problem in given if problem.id not in rates]
        if unknown and (self.missing == "error" or len(unknown) == len(given)):
            raise DataError(
                f"{self.records}: no judged completion of {len(unknown)} of {len(given)} problems, the first "
                f"{unknown[0]!r}; expected the records of an evaluation of the same dataset: finish it with `llmrl "
                "eval`, or leave such problems out with data.missing=drop"
            )
        counted = [(problem, self.times(rates[problem.id])) for problem in given if problem.id in rates]
        if not any(times for _, times in counted):
            raise DataError(f"{self.records}: no problem has a pass rate below {self.below}; raise data.below")
        for copy in range(1, max(self.repeats) + 1):
            for problem, times in counted:
                if copy <= times:
                    yield problem if copy == 1 else replace(problem, id=f"{problem.id}#{copy}")

    def times(self, rate: Fraction) -> int:
        """Number of repeats of a problem with this pass rate."""
        place = rate / Fraction(str(self.below)) * len(self.repeats)  # exact: 0.6 is the border between two bins
        return self.repeats[int(place)] if place < len(self.repeats) else 0


plugin = ByPassRate
