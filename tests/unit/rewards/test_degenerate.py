"""Answers that are cut off, repeat themselves or are garbled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.rewards.degenerate import Degenerate, foreign_share, longest_run, repeated_share
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Finish, Problem, Score, Trajectory
from tests import builders

ENGLISH = frozenset({"LATIN"})
RULES = ("truncated", "repeated", "garbled")


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1, timeout_s=5.0) as pool:
        yield pool


def episode(
    text: str = "so 4", ids: Any = range(40), finish: Finish = "stop", asked: str = "What is 2+2?", answer: str = "4"
) -> Trajectory:
    problem = Problem(id="a", messages=[{"role": "user", "content": asked}], answer=answer)
    return builders.episode(builders.turn(text, list(ids), finish=finish), problem=problem)


def score(pool: GradingPool, one: Trajectory, **options: Any) -> Score:
    (found,) = asyncio.run(as_group_reward(build("reward", {"name": "degenerate", **options}), pool).score([one]))
    return found


def broken(found: Score) -> list[str]:
    return [name for name in RULES if found.parts[name]]


LOOP = [*range(30), *list(range(10)) * 10]


@pytest.mark.parametrize(
    ("one", "value", "rules"),
    [
        (episode(), 1.0, []),
        (episode("so 5"), 0.0, []),
        (episode(finish="length"), -1.0, ["truncated"]),
        (episode(ids=LOOP), -1.0, ["repeated"]),
        (episode("so \ufffd 4"), -1.0, ["garbled"]),
        (episode("so \ufffd 4", ids=LOOP, finish="length"), -1.0, ["truncated", "repeated", "garbled"]),
    ],
)
def test_the_rules_around_another_reward(pool: GradingPool, one: Trajectory, value: float, rules: list[str]) -> None:
    found = score(pool, one, of={"name": "numeric"})
    assert (found.value, broken(found)) == (value, rules)
    assert found.verdict == ("wrong" if "5" in one.text else "correct"), "that of the answer, whatever it is worth"
    assert all(name in found.reason for name in rules)


def test_a_low_value_stays_low_but_for_what_is_cut_off(pool: GradingPool) -> None:
    harsh = {"name": "mix", "parts": {"numeric": 5.0, "soft_overlong": {"weight": 9.0, "limit": 40, "cache": 40}}}
    found = score(pool, episode("so 5", ids=LOOP), of=harsh)
    assert (found.value, found.parts["repeated"], found.parts["soft_overlong"]) == (-9.0, 1.0, -1.0)
    assert score(pool, episode("so 5", ids=LOOP, finish="length"), of=harsh).value == -1.0
    assert score(pool, episode(finish="length"), of=harsh, truncated=None).value == 5.0 - 9.0


def test_what_nobody_could_judge_stays_so(pool: GradingPool) -> None:
    found = score(pool, episode(answer="none", ids=LOOP, finish="length"), of={"name": "numeric"})
    assert (found.value, found.verdict, found.parts) == (None, "error", {})


def test_alone_it_is_a_penalty_for_a_mix(pool: GradingPool) -> None:
    assert score(pool, episode()).value == 0.0
    assert score(pool, episode(ids=LOOP)).value == -1.0
    mix = {"name": "mix", "parts": {"numeric": 1.0, "degenerate": {"weight": 0.5, "penalty": -2.0}}}
    (found,) = asyncio.run(as_group_reward(build("reward", mix), pool).score([episode(ids=LOOP)]))
    assert (found.value, found.verdict) == (0.0, "correct")


def test_latencies_are_those_of_the_reward_inside(pool: GradingPool) -> None:
    lifted = as_group_reward(build("reward", {"name": "degenerate", "of": {"name": "numeric"}}), pool)
    asyncio.run(lifted.score([episode()]))
    assert [len(seconds) for seconds in lifted.latencies().values()] == [1]


def test_repetition_worked_by_hand() -> None:
    assert repeated_share([1, 2, 1, 2, 1], 2) == 0.5  # 12 21 12 21: two of four were there before
    assert repeated_share([1, 2, 3], 4) == 0.0  # fewer tokens than a run has
    assert repeated_share([], 1) == 0.0
    assert repeated_share([7] * 30, 20) == pytest.approx(10 / 11)


def test_repetition_is_sought_in_each_completion_alone() -> None:
    one = episode(ids=range(25))
    assert not Degenerate().found(Trajectory(problem=one.problem, turns=[one.turns[0]] * 2, status="done"))["repeated"]


@pytest.mark.parametrize(
    "text",
    [
        "Let $x \\in \\mathbb{R}$, so $x^2 \\ge 0$ → done. □",
        "ℝ ⊂ ℂ, α ≤ β, 30°, ∑ x² ≈ 5 €, 𝑥 = ½, x̄ ± σ, ① ⇒ ② ∎",
        "def f(x):\n\treturn {x: 'naïve café'}",
        "",
        "   \n",
    ],
)
def test_mathematics_is_at_home_everywhere(text: str) -> None:
    assert foreign_share(text, ENGLISH) == 0.0


def test_foreign_scripts_are_those_that_the_prompt_has_not() -> None:
    assert foreign_share("ab 中д", ENGLISH) == 0.5
    assert foreign_share("ab 中д", frozenset({"CJK"})) == 0.25
    assert foreign_share("😀😀ab", ENGLISH) == 0.5
    rules = Degenerate()
    assert rules.found(episode("答案是四。", asked="What is 2+2?"))["garbled"]
    assert not rules.found(episode("答案是四。", asked="二加二等于几?"))["garbled"]
    assert not rules.found(episode("x" * 40 + "中中", asked="2+2?"))["garbled"], "2 of 42 is less than .05"


def test_runs_without_a_space() -> None:
    assert longest_run("ab cde\nf", ENGLISH) == 3
    assert longest_run("", ENGLISH) == 0
    assert not Degenerate().found(episode("a" * 199))["garbled"]
    assert Degenerate().found(episode("b " + "a" * 200))["garbled"]
    chinese = frozenset({"CJK"})
    assert longest_run("中" * 300 + "abc", chinese) == 3, "which is written without spaces"
    assert longest_run("中" * 300, ENGLISH) == 300


@pytest.mark.parametrize("options", [{"ngram": 0}, {"repeated_share": 1.5}, {"foreign_share": -0.1}])
def test_odd_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(options))):
        build("reward", {"name": "degenerate", **options})
