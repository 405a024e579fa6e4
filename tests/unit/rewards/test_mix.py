"""The weighted sum of rewards."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

PARTS = """
def half(completions, **columns):
    return [0.5] * len(completions)

def abstains(completions, **columns):
    return [None] * len(completions)
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GradingPool]:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "some_parts.py").write_text(PARTS)
    sys.path.insert(0, str(folder))
    with GradingPool(workers=1, timeout_s=2.0) as pool:
        yield pool
    sys.path.remove(str(folder))
    sys.modules.pop("some_parts", None)


def score(
    pool: GradingPool, parts: dict[str, Any], text: str = "<think>a</think><answer>4</answer>", answer: str = "4"
) -> Score:
    completion = Completion(token_ids=[0] * 15, logprobs=[0.0] * 15, finish="stop", version=0)
    turn = Turn(prompt_ids=[], completion=completion, text=text)
    episode = Trajectory(problem=Problem(id="a", messages=(), answer=answer), turns=[turn], status="done")
    (result,) = asyncio.run(as_group_reward(build("reward", {"name": "mix", "parts": parts}), pool).score([episode]))
    return result


def test_the_sum_and_its_parts(pool: GradingPool) -> None:
    overlong = {"weight": 0.5, "limit": 20, "cache": 10}
    result = score(pool, {"format": 0.1, "numeric": 1.0, "soft_overlong": overlong, "some_parts:half": 2})
    assert result.value == pytest.approx(0.1 + 1.0 - 0.25 + 1.0)
    assert result.parts == {"format": 1.0, "numeric": 1.0, "soft_overlong": -0.5, "some_parts:half": 0.5}
    assert result.verdict == "correct"
    assert "numeric: read 4, expected 4" in result.reason


def test_the_first_verdict_counts(pool: GradingPool) -> None:
    result = score(pool, {"format": 0.1, "numeric": 1.0}, "<think>a</think><answer>5</answer>")
    assert (result.value, result.verdict) == (0.1, "wrong")


def test_a_part_that_cannot_be_judged_takes_the_whole_with_it(pool: GradingPool) -> None:
    result = score(pool, {"numeric": 1.0, "format": 0.1}, answer="none")
    assert (result.value, result.verdict) == (None, "error")
    assert "numeric: problem a: numeric raised ValueError" in result.reason
    assert score(pool, {"numeric": 1.0, "countdown": 0.1}).value is None


def test_a_part_that_abstains_is_left_out(pool: GradingPool) -> None:
    result = score(pool, {"some_parts:abstains": 2.0, "numeric": 1.0})
    assert (result.value, result.verdict, result.abstained) == (1.0, "correct", False)
    assert result.parts["some_parts:abstains"] is None
    gated = {"weight": 0.5, "if": "some_parts:abstains >= 1"}
    assert score(pool, {"some_parts:abstains": 2.0, "numeric": 1.0, "format": gated}).value == 1.0


@pytest.mark.parametrize(
    "others",
    [{}, {"numeric": 0}, {"format": {"weight": 0.5, "if": "some_parts:abstains >= 1"}}],
)
def test_where_all_parts_abstain_nobody_has_judged(pool: GradingPool, others: dict[str, Any]) -> None:
    result = score(pool, {"some_parts:abstains": 1.0, **others})
    assert (result.value, result.abstained) == (None, True)
    assert "some_parts:abstains: abstains abstained" in result.reason


def test_latencies_are_by_part(pool: GradingPool) -> None:
    lifted = as_group_reward(build("reward", {"name": "mix", "parts": {"numeric": 1.0, "format": 0.1}}), pool)
    turns: list[Turn] = []
    asyncio.run(
        lifted.score([Trajectory(problem=Problem(id="a", messages=(), answer="4"), turns=turns, status="done")])
    )
    assert {name: len(seconds) for name, seconds in lifted.latencies().items()} == {"numeric": 1, "format": 1}


@pytest.mark.parametrize("parts", [{}, {"numeric": "much"}, {"numeric": {"tolerance": 1}}, {"numeric": float("nan")}])
def test_odd_parts_are_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="parts"):
        build("reward", {"name": "mix", "parts": parts})


def test_unknown_parts_are_refused(pool: GradingPool) -> None:
    with pytest.raises(RecipeError, match=r"reward\.parts\.numerik.*did you mean 'numeric'"):
        score(pool, {"numerik": 1.0})


def test_a_part_that_is_only_logged_and_fails_decides_nothing(pool: GradingPool) -> None:
    result = score(pool, {"countdown": 0.0, "numeric": 1.0})  # countdown finds no nums: an error
    assert (result.value, result.verdict) == (1.0, "correct")
