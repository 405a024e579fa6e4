"""Points with several objectives, all to be maximised: which are beaten by none, and the volume that they dominate."""

from __future__ import annotations

from collections.abc import Sequence

Point = Sequence[float]


def front(points: Sequence[Point]) -> list[int]:
    """The points that no other dominates, by number; equal points are all there."""
    return [i for i, point in enumerate(points) if not any(_dominates(other, point) for other in points)]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Volume of what is dominated by a point and dominates the reference; exact, for any number of objectives.

    The last objective is cut where a point lies; each slice is the volume of the others, of the points above it.
    """
    inside = [point for point in points if all(value > least for value, least in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return max(point[0] for point in inside) - reference[0]
    volume, above = 0.0, sorted({point[-1] for point in inside}, reverse=True)
    for height, below in zip(above, [*above[1:], reference[-1]], strict=True):
        slice_ = [point[:-1] for point in inside if point[-1] >= height]
        volume += (height - below) * hypervolume(slice_, reference[:-1])
    return volume


def _dominates(a: Point, b: Point) -> bool:
    """True if `a` is nowhere worse than `b`, and somewhere better."""
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))
