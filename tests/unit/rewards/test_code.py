"""The reward for programs: columns, answers, shares, and values that cross the wall."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from llmrl import plugins
from llmrl.errors import RewardError
from llmrl.rewards.code import Code, same
from llmrl.sandbox.solution_tests import Functions, Programs, mbpp, read
from llmrl.sandbox.solution_values import pack, unpack
from llmrl.scoring.manager import GradingPool
from llmrl.types import Problem, Score
from tests.builders import some

REWARD = Code(timeout_s=60.0, min_level="subprocess")  # a machine may be busy
DOUBLE = {"tests": ["assert f(2) == 4", "assert f(-1) == -2", "assert f([3]) == [3, 3]"], "entry_point": "f"}


def grade(info: dict[str, Any], answer: str, reward: Code = REWARD) -> Score:
    return reward(Problem(id="p", messages=(), info=info), answer)


def block(source: str) -> str:
    return f"So:\n```python\n{source}\n```\nDone."


def test_all_or_nothing_and_shares() -> None:
    assert grade(DOUBLE, block("def f(x): return x * 2")) == Score(
        1.0, "correct", {"tests": 1.0}, reason="3 of 3 tests passed"
    )
    half = block("def f(x): return [3, 3] if x == [3] else 4")
    shared = grade(DOUBLE, half, Code(timeout_s=60.0, min_level="subprocess", credit="share"))
    assert shared.value == pytest.approx(2 / 3)
    assert shared.verdict == "wrong"
    none = grade(DOUBLE, half)
    assert (none.value, none.verdict) == (0.0, "wrong")
    assert none.reason.startswith("test 2: AssertionError")


@pytest.mark.parametrize(
    ("answer", "verdict", "reason"),
    [
        ("", "unparsable", "no code"),
        ("```python\ndef f(x): return x * 2", "unparsable", "not closed"),
        ("I do not know.", "unparsable", "SyntaxError"),
        (block("def f(x) return"), "wrong", "SyntaxError"),
        (block("def g(x): return x"), "wrong", "the solution defines no f"),
        (block("x = '" + "x" * 100_001 + "'"), "unparsable", "more than"),
    ],
)
def test_answers_without_a_solution(answer: str, verdict: str, reason: str) -> None:
    score = grade(DOUBLE, answer)
    assert (score.value, score.verdict) == (0.0, verdict)
    assert reason in score.reason


def test_the_last_block_after_thinking_counts() -> None:
    wrong, right = block("def f(x): return 0"), block("def f(x): return x * 2")
    assert grade(DOUBLE, wrong + right).value == 1.0
    assert grade(DOUBLE, f"<think>{right}</think>{wrong}").value == 0.0


HUMANEVAL = {
    "prompt": 'def half(x):\n    return x / 2\n\ndef quarter(x):\n    """A quarter of x."""\n',
    "test": "METADATA = {}\ndef check(candidate):\n    assert candidate(8) == 2\n    assert half(candidate(8)) == 1\n"
    "    assert True, 'shown'\n",
    "entry_point": "quarter",
}


@pytest.mark.parametrize(
    "answer",
    [
        "    return half(half(x))\n",  # continues the prompt
        block("def quarter(x):\n    return half(x) / 2"),  # uses its helper
        block("def half(x):\n    return x / 2\ndef quarter(x):\n    return x / 4"),
    ],
)
def test_humaneval_is_a_prompt_continued_or_a_program(answer: str) -> None:
    assert grade(HUMANEVAL, answer).reason == "2 of 2 tests passed"  # the one that calls nothing does not count


def test_helpers_of_the_tests_are_not_the_solutions() -> None:
    cheat = block("def half(x):\n    return 1\ndef quarter(x):\n    return 2")
    tests = {**HUMANEVAL, "test": "def check(candidate):\n    assert half(candidate(9)) == 2.25 / 2\n"}
    assert grade(tests, cheat).value == 0.0


def test_mbpp_names_are_those_that_only_the_solution_defines() -> None:
    tests = ["assert math.isclose(sum([Pair(1, 2)]), 3) and set([1])"]
    found = mbpp(tests, "", "class Pair: pass\ndef sum(x): pass\ndef other(): pass")
    assert (list(found.names), found.preamble) == (["Pair", "sum"], "import math")


def test_mbpp_with_objects_of_the_solutions() -> None:
    code = "class Node:\n    def __init__(self, v):\n        self.v, self.next = v, None\ndef total(n):\n" + (
        "    return n.v + total(n.next) if n else 0"
    )
    rows = {"test_list": ["assert total(head) == 3"], "test_setup_code": "head = Node(1)\nhead.next = Node(2)"}
    assert grade(rows | {"code": code}, block(code)).value == 1.0


def test_functions_may_be_arguments_and_errors_be_expected() -> None:
    tests = {
        "tests": [
            "assert f(lambda x: x + 1, 2) == 3",
            "try:\n    f(None, 1)\n    assert False\nexcept TypeError: pass",
        ],
        "entry_point": "f",
    }
    assert grade(tests, block("def f(g, x): return g(x)")).value == 1.0


def test_programs_are_judged_by_what_they_print() -> None:
    info = {"input_output": json.dumps({"inputs": ["1 2\n", "5 5"], "outputs": ["3\n", "10"]})}
    assert grade(info, block("a, b = map(int, input().split())\nprint(a + b)\nexit()")).value == 1.0
    wrong = grade(info, block("input()\nprint(3)"))
    assert wrong.reason == "test 2: printed '3\\n', expected '10'; 1 of 2 tests passed"
    assert grade(info, block("print(3); raise ValueError('no')")).reason.startswith("test 1: ValueError: no")


def test_blanks_at_ends_do_not_matter() -> None:
    assert same("1 \n2\n\n", "1\n2")
    assert not same(" 1", "1")
    assert not same("1\n\n2", "1\n2")


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"level": 3}, "no tests; expected info with test and entry_point.*found level"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ({"test_list": ["assert ("]}, "the tests are no Python"),
        ({"tests": ["assert f(object()) == 1"], "entry_point": "f"}, "the tests are broken.*object"),
        ({"tests": ["assert f(1) == 1"], "setup": "1 / 0", "entry_point": "f"}, "the tests are broken: ZeroDivision"),
    ],
)
def test_a_problem_without_tests_raises(info: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grade(info, block("def f(x): return x"))


def test_columns_are_recognised() -> None:
    assert isinstance(read(HUMANEVAL), Functions)
    assert read({"inputs": ["1"], "outputs": ["2"]}) == Programs([("1", "2")])


VALUES = [
    None, True, 3, -(1 << 70), 0.1, float("inf"), "é\ud800", b"\x00", 1 + 2j, range(1, 9, 2), [1, [2]], (1, "a"),
    int, {1, 2}, frozenset({(1, 2)}), {(1, 2): [3], "k": None}, Fraction(1, 3), Decimal("1.50"), date(2024, 2, 29),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_cross_the_wall(value: Any) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError(args)

    crossed = unpack(json.loads(json.dumps(pack(value, refuse))), refuse)
    assert crossed == value
    assert type(crossed) is type(value)


def test_what_is_no_value_stays_where_it_is() -> None:
    assert pack([object()], lambda value: {"held": 0}) == [{"held": 0}]


def test_a_pool_that_is_too_quick_is_refused() -> None:
    with GradingPool(1, 2.0) as pool, pytest.raises(RewardError, match=r"do not fit into rollout\.reward_timeout_s 2"):
        Code(min_level="subprocess").as_group_reward(pool)


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_the_rows_that_ship_accept_their_references(name: str) -> None:
    for problem in some(plugins.build("data", {"name": name, "split": "tiny"}).problems()):
        assert REWARD(problem, problem.answer).value == 1.0, problem.id
