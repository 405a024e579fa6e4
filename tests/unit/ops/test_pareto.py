"""Fronts and volumes, by hand and against counting."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from llmrl.ops.pareto import front, hypervolume


def test_a_front_holds_what_nothing_beats_and_equal_points_together() -> None:
    assert front([(1, 0), (0, 1), (0, 0), (1, 0), (0.5, 0.5)]) == [0, 1, 3, 4]
    assert front([]) == []


def test_volumes_by_hand() -> None:
    """Two boxes of 2 by 1 and 1 by 3, which share 1 by 1; in three objectives a box of 6 and a bar of 1 by 1 by 2."""
    assert hypervolume([(2, 1), (1, 3)], (0, 0)) == 4
    assert hypervolume([(1, 2, 3), (2, 1, 1)], (0, 0, 0)) == 6 + 1
    assert hypervolume([(3,), (5,)], (1,)) == 4


def test_what_does_not_beat_the_reference_counts_nothing() -> None:
    assert hypervolume([(0.5, 2.0)], (1, 1)) == 0
    assert hypervolume([(2.0, 2.0), (9.0, 1.0)], (1, 1)) == 1


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_volume_is_the_share_of_a_grid_that_is_dominated(size: int) -> None:
    """Points with whole coordinates: their volume is the number of unit cells below one of them."""
    random = Random(size)
    points = [tuple(random.randint(0, 5) for _ in range(size)) for _ in range(8)]
    cells = list(product(range(5), repeat=size))
    below = sum(any(all(c < p for c, p in zip(cell, point, strict=True)) for point in points) for cell in cells)
    assert hypervolume(points, (0,) * size) == below
    assert hypervolume([points[i] for i in front(points)], (0,) * size) == below
