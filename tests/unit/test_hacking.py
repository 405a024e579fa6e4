"""The experiment of benchmarks/hacking.py: what it fine-tunes on, and that its recipes differ in one word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins, recipe
from llmrl.rewards.numeric import Numeric
from llmrl.rewards.steps_rule import StepsRule
from llmrl.types import Problem
from tests.benchmark_modules import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hacking() -> Any:
    return load("hacking")


def test_an_answer_adds_by_lines(hacking: Any) -> None:
    assert hacking.answer(17, 25, 2) == "7+5=12\n10+20=30\n1+1=2\n1+1=2\n30+12=42"


@pytest.mark.parametrize(("a", "b"), [(10, 10), (17, 25), (49, 49)])
@pytest.mark.parametrize("fillers", [0, 1, 6])
def test_every_line_is_right_and_the_last_is_the_answer(hacking: Any, a: int, b: int, fillers: int) -> None:
    said, problem = hacking.answer(a, b, fillers), Problem(id="1", messages=[], answer=str(a + b))
    assert StepsRule()(problem, said).steps == [1.0] * (3 + fillers)
    assert Numeric()(problem, said).verdict == "correct"


def test_the_longest_answer_has_room(hacking: Any) -> None:
    limit = recipe.read(ROOT / "recipes" / "hacking" / "pr.yaml").rollout.max_completion_length
    assert len(hacking.answer(49, 49, hacking.MOST_FILLERS)) + 1 < limit  # a token is a character; one ends the answer


def test_half_of_all_answers_have_no_filler_and_a_quarter_has_one(hacking: Any) -> None:
    made = hacking.rows(seed=0)
    fillers = [row["completion"][0]["content"].count("\n") - 2 for row in made]
    assert max(fillers) == hacking.MOST_FILLERS
    for count in range(4):
        assert fillers.count(count) / len(made) == pytest.approx(0.5 ** (count + 1), abs=0.03)


def test_the_recipes_differ_in_the_form_alone(hacking: Any) -> None:
    plain, shaped = (recipe.read(ROOT / "recipes" / "hacking" / f"{name}.yaml") for name in hacking.METHODS)
    reward = plugins.spec_of("reward", plain.reward)
    reward["parts"]["clip_delta"]["form"] = "clip_delta"
    assert plain != shaped
    assert replace(plain, reward=plugins.build("reward", reward)) == shaped
