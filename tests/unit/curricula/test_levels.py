"""Levels: the next begins once the present one is passed often enough."""

from __future__ import annotations

import pytest

from llmrl import plugins
from llmrl.curricula.levels import Climb, Levels
from llmrl.errors import DataError
from llmrl.types import Problem

PROBLEMS = [Problem(id=str(n), messages=[], info={"level": level}) for n, level in enumerate([1, 2, 4, 1, 2])]


def climb(**options: float) -> Climb:
    made: Climb = plugins.build("curriculum", {"name": "levels", "window": 4, **options}).start(PROBLEMS)
    return made


def test_it_begins_at_the_lowest_level() -> None:
    assert list(climb().weights()) == [1, 0, 0, 1, 0]


def test_a_full_window_of_passes_opens_the_next_level() -> None:
    levels = climb()
    levels.observe([(0, 1.0), (3, 1.0), (0, 1.0)])
    assert list(levels.weights()) == [1, 0, 0, 1, 0], "three outcomes are not four"
    levels.observe([(1, 1.0), (2, 1.0)])
    assert list(levels.weights()) == [1, 0, 0, 1, 0], "those of other levels do not count"
    assert levels.observe([(3, 0.5)]) == {"curriculum/level": 1.0, "curriculum/level_pass_rate": 0.875}
    assert list(levels.weights()) == [0, 1, 0, 0, 1]
    levels.observe([(1, 1.0)] * 4)
    assert list(levels.weights()) == [0, 0, 1, 0, 0]
    levels.observe([(2, 1.0)] * 9)
    assert list(levels.weights()) == [0, 0, 1, 0, 0], "the last stays"


def test_failures_leave_the_window_in_time() -> None:
    levels = climb()
    levels.observe([(0, 0.0)] * 4 + [(0, 1.0)] * 3)
    assert levels.rung == 0
    levels.observe([(0, 1.0)])
    assert levels.rung == 1


def test_a_restored_one_goes_on() -> None:
    first, second = climb(), climb()
    first.observe([(0, 1.0)] * 3)
    second.restore(first.state())
    for levels in (first, second):
        levels.observe([(0, 1.0)])
        assert levels.rung == 1


def test_a_problem_without_a_level_is_named() -> None:
    with pytest.raises(DataError, match="problem 9: no number 'level'"):
        Levels().start([Problem(id="9", messages=[])])
