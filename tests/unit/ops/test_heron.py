from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from llmrl.ops.heron import Decision, Level, borda, cyclic_share, decide, decisions, deviations

LEVELS = [Level(1.0, 0.0), Level(-1.0, 2.0)]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([1.0, 9.0], [0.0, 0.0], (1, 0)),  # the first level decides, however bad the second
        ([0.0, 0.0], [1.0, 9.0], (-1, 0)),
        ([1.0, 3.0], [1.0, 6.0], (1, 1)),  # less is better
        ([1.0, 3.0], [1.0, 5.0], (0, None)),  # just the threshold decides nothing
        ([1.0, 3.0], [1.0, 3.0], (0, None)),
    ],
)
def test_the_first_level_that_differs_enough_decides(
    first: list[float], second: list[float], said: tuple[int, int | None]
) -> None:
    assert decide(first, second, LEVELS) == said
    assert decide(second, first, LEVELS) == (-said[0], said[1])


def test_the_scale_of_a_factor_does_not_matter_and_their_order_does() -> None:
    random = Random(0)
    rows = [[random.random(), random.random()] for _ in range(12)]
    large = [[100 * a, b] for a, b in rows]
    for multiplier in (0.0, 0.5):
        own, others = ([Level(1.0, multiplier * std) for std in deviations(measured)] for measured in (rows, large))
        assert [p.label for p in decisions(rows, own)] == [p.label for p in decisions(large, others)]
    swapped = [[b, a] for a, b in rows]
    plain = [Level(), Level()]
    assert [p.label for p in decisions(rows, plain)] != [p.label for p in decisions(swapped, plain)]


def test_deviations_are_unbiased_and_0_of_what_never_changes() -> None:
    assert deviations([[1.0, 7.0], [3.0, 7.0]]) == [pytest.approx(2**0.5), 0.0]
    assert deviations([[1.0, 7.0]]) == [0.0, 0.0]


def test_borda_counts_wins_and_halves_of_what_is_undecided() -> None:
    rows = [[2.0], [1.0], [1.0]]
    assert borda(3, decisions(rows, [Level()])) == [1.0, 0.25, 0.25]
    assert borda(2, [Decision(0, 1, 0, None)]) == [0.5, 0.5]


def test_thresholds_make_circles_and_these_are_found() -> None:
    rows = [[0.0, 2.0], [0.6, 1.0], [1.2, 0.0]]  # 0 beats 1, 1 beats 2 by the second level; 2 beats 0 by the first
    levels = [Level(1.0, 1.0), Level(1.0, 0.5)]
    assert [p.label for p in decisions(rows, levels)] == [1, -1, 1]
    assert cyclic_share(rows, levels) == 1.0
    assert cyclic_share(rows, [Level(), Level()]) == 0.0
    assert cyclic_share([[1.0], [1.0], [1.0]], [Level()]) is None
    assert cyclic_share(rows[:2], levels) is None


def test_sampled_triples_estimate_what_all_would_say() -> None:
    random = Random(1)
    rows = [[random.gauss(0, 1), random.gauss(0, 1)] for _ in range(30)]
    levels = [Level(1.0, 1.0), Level(1.0, 0.1)]
    whole = cyclic_share(rows, levels, triples=10**6)
    assert whole is not None
    assert 0.01 < whole < 0.5
    assert cyclic_share(rows, levels, triples=2000, seed=3) == pytest.approx(whole, abs=0.03)
    assert cyclic_share(rows, levels, triples=100, seed=3) == cyclic_share(rows, levels, triples=100, seed=3)


def test_every_pair_is_asked_once() -> None:
    assert [(p.first, p.second) for p in decisions([[0.0]] * 4, [Level()])] == list(combinations(range(4), 2))


def test_a_level_that_is_none() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Level(1.0, -1.0)
    with pytest.raises(ValueError, match="1 or -1"):
        Level(2.0)
