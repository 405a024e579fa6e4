"""MBTL: on a line of families with known transfer, its stages cover what the best stages cover."""

from __future__ import annotations

import json
from itertools import permutations
from statistics import fmean

import pytest

from llmrl.errors import DataError
from llmrl.types import Problem
from tests.unit.curricula.worlds import PROBLEMS, made

PLACES = range(9)
SLOPE, REACHED = 0.2, 0.8


def line() -> list[Problem]:
    return [Problem(id=str(place), messages=[], info={"level": place}) for place in PLACES]


def performance(trained: list[int]) -> list[float]:
    """Zero-shot pass rate at each place: 0.8 where it was trained, 0.2 less (of 0 to 8: 1.6) per eighth of the line."""
    return [max((REACHED - SLOPE * abs(place - at) for at in trained), default=0.0) for place in PLACES]


def covered(trained: list[int]) -> float:
    return fmean(max(rate, 0.0) for rate in performance(trained))


def trained(stages: int, **options: object) -> list[int]:
    """The families of the first stages, each measured everywhere at its end."""
    factory = made({"name": "mbtl", "family": "level", "stage_steps": 1, "half_life": 1e-3, "beta": 0.0, **options})
    curriculum = factory.start(line())
    places: list[int] = []
    for _ in range(stages):
        places.append(int(curriculum.weights().argmax()))
        curriculum.observe([(place, max(rate, 0.0)) for place, rate in enumerate(performance(places))])
    return places


@pytest.mark.parametrize("slope", [None, 8 * SLOPE])
def test_it_chooses_as_the_best_greedy_teacher_does(slope: float | None) -> None:
    """The middle first; then, with two more stages, no pair of families covers more."""
    places = trained(3, slope=slope)
    assert places[0] == 4
    best = max(covered([4, a, b]) for a, b in permutations(PLACES, 2))
    assert covered(places) == pytest.approx(best)


def test_it_covers_more_than_families_in_turn_and_than_chance() -> None:
    places = trained(3)
    anywhere = fmean(covered(list(order)) for order in permutations(PLACES, 3))
    assert covered(places) > anywhere + 0.05
    assert covered(places) > covered([0, 1, 2]) + 0.1


def test_the_slope_is_that_of_the_world() -> None:
    """Rates that are lost in proportion to the distance, of which a whole line is 1; none is cut at 0 here."""
    curriculum = made({"name": "mbtl", "family": "level", "stage_steps": 1, "half_life": 1e-3}).start(line())
    curriculum.observe([(place, 0.9 - 0.1 * abs(place - 4)) for place in PLACES])
    metrics = curriculum.observe([])
    assert metrics["curriculum/slope"] == pytest.approx(0.1 * 8)


def test_a_stage_lasts_and_resumes() -> None:
    factory = made({"name": "mbtl", "family": "level", "stage_steps": 3})
    curriculum, again = factory.start(line()), factory.start(line())
    turns = []
    for step in range(7):
        turns.append(int(curriculum.weights().argmax()))
        curriculum.observe([(turns[-1], 0.5), (step, 0.1 * step)])
        again.restore(json.loads(json.dumps(curriculum.state())))
        assert again.weights().tolist() == curriculum.weights().tolist()
    assert turns[:3] == [4] * 3
    assert len(set(turns[3:6])) == 1
    assert again.state() == curriculum.state()


def test_families_of_one_kind_are_refused() -> None:
    with pytest.raises(DataError, match="expected several families"):
        made({"name": "mbtl", "family": "level"}).start(line()[:1])
    with pytest.raises(DataError, match=r"has no 'subject'.*difficulty, topic"):
        made({"name": "mbtl", "family": "subject"}).start(PROBLEMS)
