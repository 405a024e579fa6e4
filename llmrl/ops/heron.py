"""Preferences from factors in an order of importance: the decision tree of HERON, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from statistics import stdev
from typing import Literal

Row = Sequence[float]
"""One answer's factors, the most important first."""


@dataclass(frozen=True, slots=True)
class Level:
    """A question of the tree: the difference of two answers from which it decides, and the direction."""

    sign: float = 1.0  # -1: less is better
    threshold: float = 0.0  # a larger difference decides; an equal one does not

    def __post_init__(self) -> None:
        if self.sign not in (-1.0, 1.0) or not 0.0 <= self.threshold < float("inf"):
            raise ValueError(f"sign {self.sign}, threshold {self.threshold}: expected 1 or -1, and at least 0")


@dataclass(frozen=True, slots=True)
class Decision:
    """The tree's decision on a pair."""

    first: int
    second: int
    label: Literal[1, 0, -1]  # 1: the first is preferred; -1: the second; 0: no level decides
    level: int | None  # which one decided


def deviations(rows: Sequence[Row]) -> list[float]:
    """The standard deviation of each factor, unbiased (by n - 1); 0.0 where there are fewer than two rows."""
    return [stdev(column) if len(column) > 1 else 0.0 for column in zip(*rows, strict=True)]


def decide(first: Row, second: Row, levels: Sequence[Level]) -> tuple[Literal[1, 0, -1], int | None]:
    """The first level at which the two differ by more than its threshold, and who is better there.

    Args:
        first, second: finite factors, one for each level.
        levels: the most important first.
    Returns:
        1 and the level where the first is preferred, -1 and the level where the second is, 0 and None where no level
        decides.
    Source: HERON, Bukharin et al. 2024 (arXiv 2309.02632), the preference elicitation tree.
    """
    for number, (a, b, level) in enumerate(zip(first, second, levels, strict=True)):
        difference = level.sign * (a - b)
        if difference > level.threshold:
            return 1, number
        if difference < -level.threshold:
            return -1, number
    return 0, None


def decisions(rows: Sequence[Row], levels: Sequence[Level]) -> list[Decision]:
    """The tree's decision on every pair of rows, in their order."""
    return [Decision(i, j, *decide(rows[i], rows[j], levels)) for i, j in combinations(range(len(rows)), 2)]


def borda(count: int, decided: Sequence[Decision]) -> list[float]:
    """The share of its comparisons that each of `count` rows wins, 0 to 1; an undecided one is half won.

    Args:
        count: at least 2 rows.
        decided: of every pair of them.
    Returns:
        Numbers whose mean is 0.5.
    """
    won = [0.0] * count
    for pair in decided:
        won[pair.first] += (1 + pair.label) / 2
        won[pair.second] += (1 - pair.label) / 2
    return [wins / (count - 1) for wins in won]


def cyclic_share(rows: Sequence[Row], levels: Sequence[Level], triples: int = 1000, seed: int = 0) -> float | None:
    """Share of cyclic triples (each beats the next), among triples whose three pairs are all decided.

    With thresholds above 0 the relation is no order, and there are some.

    Args:
        triples: all of them where there are no more, else so many drawn by `seed`.
    Returns:
        0 to 1; None where no triple is decided.
    """
    size = len(rows)
    total = size * (size - 1) * (size - 2) // 6
    random = Random(seed)
    chosen = (
        combinations(range(size), 3) if total <= triples else (random.sample(range(size), 3) for _ in range(triples))
    )
    seen = cycles = 0
    for i, j, k in chosen:
        labels = [decide(rows[a], rows[b], levels)[0] for a, b in ((i, j), (j, k), (k, i))]
        seen += 0 not in labels
        cycles += abs(sum(labels)) == 3
    return cycles / seen if seen else None
