from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import DataError, RecipeError
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Problem, Score, Trajectory
from tests import builders


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1, timeout_s=5.0) as pool:
        yield pool


def answer(text: str, reference: str = "7") -> Trajectory:
    problem = Problem(id="p", messages=[], answer=reference)
    return builders.episode(builders.turn(text, [0], prompt=[0]), problem=problem)


def scores(pool: GradingPool, texts: Sequence[str], **options: Any) -> list[Score]:
    reward = as_group_reward(build("reward", {"name": "heron", **options}), pool)
    return asyncio.run(reward.score([answer(text) for text in texts]))


RIGHT_THEN_SHORT = [{"name": "numeric"}, {"name": "length", "sign": -1, "threshold": 2}]


def test_right_beats_short_and_short_decides_among_the_right(pool: GradingPool) -> None:
    found = scores(pool, ["7", "it is 7", "9", "a 7"], factors=RIGHT_THEN_SHORT)
    # 7 beats "it is 7" by length and ties with "a 7" (2 characters are not more than 2); all of them beat 9
    assert [one.value for one in found] == [pytest.approx(2.5 / 3), pytest.approx(1 / 3), 0.0, pytest.approx(2.5 / 3)]
    assert [one.verdict for one in found] == ["correct", "correct", "wrong", "correct"]
    parts = found[0].parts
    assert parts["numeric"] == 1.0
    assert parts["length"] == 1.0
    assert parts["level/numeric"] == pytest.approx(1 / 3)
    assert parts["level/length"] == pytest.approx(1 / 3)
    assert parts["undecided"] == pytest.approx(1 / 3)
    assert parts["cycles"] == 0.0


def test_the_order_of_the_factors_decides(pool: GradingPool) -> None:
    found = scores(pool, ["it is 7", "9"], factors=RIGHT_THEN_SHORT[::-1])
    assert [one.value for one in found] == [0.0, 1.0]


def test_a_part_of_a_score_is_a_factor_and_equal_rewards_are_asked_once(pool: GradingPool) -> None:
    of = {"name": f"{__name__}:Counting"}
    factors = [{"name": "first", "of": of, "part": "digits"}, {"name": "second", "of": of, "part": "letters"}]
    found = scores(pool, ["12 a", "1 bb", "1 c"], factors=factors)
    assert [one.value for one in found] == [1.0, 0.5, 0.0]
    assert found[1].parts["second"] == 2.0


@dataclass(frozen=True)
class Counting:
    """Parts and no value."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        texts = [one.text for one in group]
        return [
            Score(None, parts={"digits": sum(map(str.isdigit, t)), "letters": sum(map(str.isalpha, t))}) for t in texts
        ]


@dataclass(frozen=True)
class Failing:
    """Cannot judge what says so."""

    def __call__(self, problem: Problem, text: str) -> Score:
        return Score(None, "error", reason="no idea") if text == "?" else Score(float(len(text)))


def test_what_a_factor_cannot_judge_is_compared_with_nobody(pool: GradingPool) -> None:
    found = scores(pool, ["?", "aa", "a"], factors=[{"name": "f", "of": {"name": f"{__name__}:Failing"}}])
    assert [one.value for one in found] == [None, 1.0, 0.0]
    assert found[0].verdict == "error"
    assert found[0].reason == "problem p: factor f: no idea"


def test_a_part_that_is_not_there_is_named(pool: GradingPool) -> None:
    factors = [{"name": "f", "of": {"name": f"{__name__}:Counting"}, "part": "digit"}]
    found = scores(pool, ["1", "2"], factors=factors)
    assert {one.value for one in found} == {None}
    assert "factor f: no part 'digit' among digits, letters" in found[0].reason


def test_who_is_alone_has_no_value(pool: GradingPool) -> None:
    (found,) = scores(pool, ["7"], factors=[{"name": "numeric"}])
    assert found.value is None
    assert "nobody in its group" in found.reason


def test_thresholds_of_deviations_come_from_a_calibration(pool: GradingPool, tmp_path: Path) -> None:
    path = tmp_path / "pairs.calibration.json"
    path.write_text(json.dumps({"answers": 9, "factors": {"length": {"std": 4.0}}}))
    factors = [{"name": "length", "delta_mult": 0.5}]
    assert [one.value for one in scores(pool, ["aaa", "a"], factors=factors, calibration=str(path))] == [0.5, 0.5]
    assert [one.value for one in scores(pool, ["aaaa", "a"], factors=factors, calibration=str(path))] == [1.0, 0.0]
    path.write_text("{}")
    with pytest.raises(DataError, match="no calibration"):
        scores(pool, ["a", "b"], factors=factors, calibration=str(path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "factors: missing"),
        ({"factors": []}, "found none; expected at least one"),
        ({"factors": [{"name": "numeric"}, {"name": "numeric"}]}, "each with its own name"),
        ({"factors": [{"name": "numerik"}]}, "unknown reward 'numerik'"),
        ({"factors": [{"name": "numeric", "singn": -1}]}, "unexpected keyword"),
        ({"factors": [{"name": "numeric", "sign": 2}]}, "input should be 1 or -1"),
        ({"factors": [{"name": "numeric", "delta_mult": -1}]}, "at least 0"),
        ({"factors": [{"name": "length", "delta_mult": 1, "threshold": 2}]}, "choose one"),
        ({"factors": [{"name": "length", "delta_mult": 1}]}, "not known; known: none.*llmrl data heron"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises((RecipeError, DataError), match=words):
        build("reward", {"name": "heron", **options})


def test_length_is_what_it_says() -> None:
    problem = Problem(id="p", messages=[])
    assert build("reward", "length")(problem, "ab cd").value == 5.0
    assert build("reward", {"name": "length", "unit": "words"})(problem, "ab cd").value == 2.0
