"""Fidelity of one way to another: plain numbers, as navigation is measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import dist, exp

Point = Sequence[float]


def success_by_length(success: float, shortest: float, taken: float) -> float:
    """Success weighed by path length, SPL: success * shortest / max(taken, shortest); 1 for the shortest way.

    Source: Anderson et al. 2018 (arXiv 1807.06757).
    """
    return success * shortest / max(taken, shortest) if max(taken, shortest) else success


def path_length(points: Sequence[Point]) -> float:
    """Sum of the Euclidean distances between neighbours."""
    return sum(dist(*pair) for pair in pairwise(points))


def warping_distance(query: Sequence[Point], reference: Sequence[Point]) -> float:
    """Least sum of distances over a monotone pairing of two paths, each point paired at least once (DTW)."""
    row = [0.0] + [float("inf")] * len(reference)
    for point in query:
        after = [float("inf")]
        for j, other in enumerate(reference):
            after.append(dist(point, other) + min(row[j], row[j + 1], after[j]))
        row = after
    return row[-1]


def ndtw(query: Sequence[Point], reference: Sequence[Point], threshold: float) -> float:
    """Normalised dynamic time warping, 0 to 1: exp(-DTW / (points of the reference * threshold)).

    Source: Ilharco et al. 2019 (arXiv 1907.05446).
    """
    return exp(-warping_distance(query, reference) / (len(reference) * threshold))
