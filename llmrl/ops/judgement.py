"""Quality of scores: their order against the truth, and predicted chances against frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt
from statistics import fmean


@dataclass(frozen=True, slots=True)
class Bin:
    """The chances within one range, and what came of them."""

    low: float
    high: float
    count: int
    said: float  # the mean chance
    came: float  # the share that came true


def roc_auc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """The chance that a right one has a higher score than a wrong one; a draw counts half. None without one of each."""
    right = sum(labels)
    wrong = len(labels) - right
    if not right or not wrong:
        return None
    total: float = sum(rank for rank, label in zip(ranks(scores), labels, strict=True) if label)
    above = total - right * (right + 1) / 2
    return above / (right * wrong)


def ranks(numbers: Sequence[float]) -> list[float]:
    """The place of each in ascending order, from 1; equal ones share the mean of theirs."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    places = [0.0] * len(numbers)
    place = 1
    for _, same in groupby(order, key=numbers.__getitem__):
        equal = list(same)
        for index in equal:
            places[index] = place + (len(equal) - 1) / 2
        place += len(equal)
    return places


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The correlation of two columns' ranks, -1 to 1; None where one of them is constant."""
    a, b = ranks(first), ranks(second)
    mean_a, mean_b = (fmean(a), fmean(b)) if a else (0.0, 0.0)
    spread = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    if not spread:
        return None
    together: float = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return together / sqrt(spread)


def brier(chances: Sequence[float], labels: Sequence[float]) -> float:
    """The mean squared error of chances, 0 to 1; always saying 0.5 has 0.25."""
    return fmean((chance - label) ** 2 for chance, label in zip(chances, labels, strict=True))


def bins(chances: Sequence[float], labels: Sequence[float], count: int = 10) -> list[Bin]:
    """Predicted chances and frequencies in ranges of equal width; empty ranges are left out."""
    indices: list[list[int]] = [[] for _ in range(count)]
    for index, chance in enumerate(chances):
        indices[min(int(chance * count), count - 1)].append(index)
    return [
        Bin(
            low=place / count,
            high=(place + 1) / count,
            count=len(held),
            said=fmean(chances[i] for i in held),
            came=fmean(labels[i] for i in held),
        )
        for place, held in enumerate(indices)
        if held
    ]


def calibration_error(chances: Sequence[float], labels: Sequence[float], count: int = 10) -> float:
    """The expected calibration error: mean gap between predicted chance and frequency, over all predictions."""
    parts = bins(chances, labels, count)
    return sum(part.count * abs(part.said - part.came) for part in parts) / len(chances)
