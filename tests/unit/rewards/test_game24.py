"""The game of 24: on answers worked by hand, on random expressions, and on every row that people and GPT-4 left."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.plugins import build
from llmrl.rewards.game24 import Game24Verifier
from llmrl.types import Problem, Score

EIGHTS = [3, 3, 8, 8]


def grade(text: str, nums: list[int], **info: Any) -> Score:
    return Game24Verifier()(Problem(id="a", messages=(), info={"nums": nums, **info}), text)


@pytest.mark.parametrize(
    "text",
    [  # 8 / 3 is no whole number on the way; 3 - 8/3 = 1/3, and 8 / (1/3) = 24
        "8 / (3 - 8 / 3)",
        "8/(3-8/3) = 24",
        "8 ÷ (3 − 8 ÷ 3) = 24.",
        "Steps:\n8 / 3 = 2.67 (left: 2.67 3 8)\nAnswer: 8 / (3 - 8 / 3) = 24",
        "**Answer:** 8 / (3 - 8 / 3) = 24\nNote: other ways may exist.",
        "The final answer is 8 / (3 - 8 / 3).",
        r"so \boxed{\frac{8}{3 - \frac{8}{3}}}",
        r"\boxed{8 \div \left(3 - 8 \div 3\right) = 24}",
        "<think>8 * 3 = 24</think> <answer>24 = 8 / (3 - 8 / 3)</answer>",
        "8 / (3 - 8 / 3) = 48",  # what it is said to equal does not count
    ],
)
def test_a_solution_in_many_forms(text: str) -> None:
    assert grade(text, EIGHTS).verdict == "correct"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("8 * 3 = 24", "wrong"),  # leaves two out
        ("8 / (3 - 8 / 3) * 1", "wrong"),  # a number that was not given
        ("8 + 8 + 3 + 3", "wrong"),  # 22
        ("8 / (3 - 3) * 8", "wrong"),  # divides by zero
        ("<answer>8 + 8 + 3 + 3</answer> or 8 / (3 - 8 / 3)", "wrong"),
        ("8 ** 3 - 8 * 3", "unparsable"),
        ("83 - 38", "wrong"),  # digits joined
        ("3! * (8 - 8 / 3)", "unparsable"),
        ("24.0 * 8 / 8", "unparsable"),
        ("Answer: Not possible", "unparsable"),
        ("__import__('os').getpid()", "unparsable"),
        ("8" * 600, "unparsable"),
        ("(" * 5000, "unparsable"),
        ("", "unparsable"),
        ("24", "wrong"),
    ],
)
def test_what_is_no_solution(text: str, verdict: str) -> None:
    score = grade(text, EIGHTS)
    assert (score.value, score.verdict) == (0.0, verdict)


def test_the_target_may_be_another() -> None:
    assert grade("3 + 3 + 8 + 8", EIGHTS, target=22).value == 1.0
    assert grade("8 / (3 - 8 / 3)", EIGHTS, target=22).value == 0.0
    with pytest.raises(ValueError, match="no nums"):
        Game24Verifier()(Problem(id="a", messages=()), "24")


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, list[int], Fraction | None]:
    """A bracketed expression of four numbers, those numbers, and its value; None where it divides by zero."""
    nums = draw(st.lists(st.integers(1, 13), min_size=4, max_size=4))
    terms: list[tuple[str, Fraction | None]] = [(str(n), Fraction(n)) for n in nums]
    while len(terms) > 1:
        (left, a), (right, b) = (terms.pop(draw(st.integers(0, len(terms) - 1))) for _ in range(2))
        sign, value = draw(st.sampled_from("+-*/")), None
        if a is not None and b is not None and not (sign == "/" and b == 0):
            value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign]
        terms.append((f"({left} {sign} {right})", value))
    return terms[0][0], nums, terms[0][1]


@given(expressions(), st.permutations(range(4)))
def test_any_expression_is_right_for_its_own_value_alone(made: tuple[str, list[int], Any], order: list[int]) -> None:
    expression, nums, value = made
    nums = [nums[i] for i in order]  # in whatever order they are given
    assert grade(expression, nums).value == float(value == 24)
    if value is not None:
        assert grade(f"Answer: {expression} = 24", nums, target=value).verdict == "correct"
        assert grade(expression, [*nums[:3], nums[3] + 1], target=value).verdict == "wrong"
        assert grade(expression, nums, target=value + 1).verdict == "wrong"


@pytest.mark.parametrize("problem", build("data", {"name": "game24", "split": "tiny"}).problems(), ids=lambda p: p.id)
def test_the_rows_that_ship_accept_their_own_solution(problem: Problem) -> None:
    assert Game24Verifier()(problem, problem.info["solution"]).value == 1.0


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_puzzle_accepts_its_own_solution(shared_data: Path) -> None:
    read = {split: list(build("data", {"name": "game24", "split": split}).problems()) for split in ("all", "test")}
    assert (len(read["all"]), len(read["test"])) == (1362, 100)
    assert {p.info["rank"] for p in read["test"]} == set(range(901, 1001))
    assert [p.id for p in read["all"] if Game24Verifier()(p, p.info["solution"]).value != 1.0] == []


def test_gpt4_outputs_are_graded_as_labelled(shared_data: Path) -> None:
    labelled = rows(shared_data / "game24/gpt4_outputs_dev.jsonl")
    assert len(labelled) == 3859
    assert [r["id"] for r in labelled if (grade(r["output"], r["nums"]).value == 1.0) != r["correct"]] == []
