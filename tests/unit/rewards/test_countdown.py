"""The countdown grader against brute force, and against answers that were written to break it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations
from random import Random

import pytest

from llmrl.answers.arithmetic import evaluate
from llmrl.rewards.countdown import CountdownVerifier
from llmrl.types import Problem, Score

OPERATORS = "+-*/"


def grade(expression: str, nums: list[int], target: int) -> Score:
    problem = Problem(id="a", messages=(), info={"nums": nums, "target": target})
    return CountdownVerifier()(problem, f"<answer>{expression}</answer>")


def brute_force(nums: tuple[Fraction | int, ...]) -> set[Fraction]:
    """Every value that all of the numbers make: reduce any two to one, in every way."""
    if len(nums) == 1:
        return {Fraction(nums[0])}
    found: set[Fraction] = set()
    for a, b, *rest in permutations(nums):
        results = [Fraction(a) + b, Fraction(a) - b, Fraction(a) * b] + ([Fraction(a) / b] if b else [])
        for result in results:
            found |= brute_force((result, *rest))
    return found


def trees(nums: list[int], random: Random) -> Iterator[tuple[str, Fraction | None]]:
    """Random fully bracketed expressions with their values, worked out beside; None where zero divides."""
    while True:
        values: list[tuple[str, Fraction | None]] = [(str(n), Fraction(n)) for n in nums]
        while len(values) > 1:
            (left, a), (right, b) = (values.pop(random.randrange(len(values))) for _ in range(2))
            op = random.choice(OPERATORS)
            value = None
            if a is not None and b is not None and not (op == "/" and b == 0):
                value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[op]
            values.append((f"({left}{op}{right})", value))
        yield values[0]


def test_random_expressions_are_graded_as_they_were_worked_out() -> None:
    random = Random(0)
    reached = 0
    for _ in range(400):
        nums = [random.randint(1, 20) for _ in range(random.choice((2, 3, 4)))]
        expression, value = next(trees(nums, random))
        whole = value is not None and value.denominator == 1 and random.random() < 0.7
        target = int(value) if whole and value is not None else random.randint(1, 100)
        assert (grade(expression, nums, target).verdict == "correct") == (value == target)
        reached += value == target
    assert 100 < reached < 300  # both outcomes were tried


def test_what_is_correct_is_among_all_that_brute_force_reaches() -> None:
    random = Random(1)
    for _ in range(20):
        nums = [random.randint(1, 12) for _ in range(3)]
        everything = brute_force(tuple(nums))
        for _, (expression, value) in zip(range(20), trees(nums, random), strict=False):
            if value is not None:
                assert value in everything
                assert evaluate(expression)[0] == value


@pytest.mark.parametrize(
    "expression",
    [
        "2**25", "25//3", "25%3", "1_0+15", "0x19", "25.0", "2e1", "int(25)", "25 if 3 else 2", "[25]", "25,3", "25<<3",
        "~25", "+25", "２５", "25 3", "'25'", "25;3", "25-", "()", "(25", "",
    ],
)  # fmt: skip
def test_only_whole_numbers_and_four_operators_are_read(expression: str) -> None:
    assert grade(expression, [25], 25).value == 0.1
    # With these numbers and this target, whoever evaluates it finds that nothing is wrong with it.
    for nums, target in (([2, 25], 2**25), ([25, 3], 25 // 3), ([25, 3], 25 % 3), ([25, 3], 25 << 3), ([25], ~25)):
        assert grade(expression, nums, target).value == 0.1


@pytest.mark.timeout(60)  # a moment, or for ever where a power is worked out
def test_nothing_that_an_answer_says_takes_long() -> None:
    hostile = [
        "25=1e999999999", "25=" + "9" * 5000, "9" * 190, "(" * 100 + "25" + ")" * 100, "-" * 190 + "25",
        "9**9**9**9**9", "*".join(["9" * 9] * 19), "25=25/0",
    ]  # fmt: skip
    for expression in hostile:
        assert grade(expression, [25], 25).value == 0.1


@pytest.mark.parametrize("answer", [r"\(55 + 36 - 19\)", "$36 + 55 - 19$", r"\left(55 - 19\right) + 36"])
def test_signs_of_latex_are_read(answer: str) -> None:
    assert grade(answer, [19, 36, 55], 72).value == 1.0
    assert grade(r"8 \times (7 - \frac{8}{8})", [8, 7, 8, 8], 48).value == 1.0


def test_depth_and_length_have_a_limit() -> None:
    ones = [1] * 40
    deep = "1"
    for _ in range(39):
        deep = f"1+({deep})"
    assert "inside each other" in grade(deep, ones, 40).reason
    assert "expected at most 200" in grade("1+" * 120 + "1", ones, 40).reason
    assert grade("(" * 20 + "25" + ")" * 20, [25], 25).verdict == "correct"  # brackets alone are no depth


def test_tags_may_be_required() -> None:
    problem = Problem(id="a", messages=(), info={"nums": [25, 3], "target": 28})
    assert CountdownVerifier()(problem, "25 + 3").verdict == "correct"
    assert CountdownVerifier(tags_required=True)(problem, "25 + 3") == Score(0.0, "unparsable", reason="no answer tags")
    assert CountdownVerifier(tags_required=True)(problem, "<answer>25 + 3</answer>").value == 1.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Answer: (1 + 2) * 8", 1.0), ("The answer is (1 + 2) * 8", 1.0), ("Answer: (1 + 2) * 8 = 24\nDone.", 1.0),
        ("\\boxed{(1 + 2) * 8}", 1.0), ("Answer: (1 + 2) * 8 = 25", 0.0), ("Answer: 24", 0.0),
        ("Answer: (1 + 2) * 8 or 24", 0.0),
    ],
)  # fmt: skip
def test_an_answer_that_is_stated_is_read_as_in_the_game_of_24(text: str, value: float) -> None:
    problem = Problem(id="a", messages=(), info={"nums": [1, 2, 8], "target": 24})
    assert CountdownVerifier()(problem, text).value == value
    assert CountdownVerifier(tags_required=True)(problem, text).value == 0.0
