"""Values of `credit: ending`: by the worst that happened to a program."""

from __future__ import annotations

from typing import Any

import pytest

from llmrl.rewards.code import Code
from llmrl.types import Problem

REWARD = Code(timeout_s=60.0, min_level="subprocess", credit="ending")
FUNCTION = {"tests": ["assert f(2) == 4", "assert f(0) == 0"], "entry_point": "f"}
PROGRAM = {"inputs": ["1\n", "2\n"], "outputs": ["1", "4"]}


@pytest.mark.parametrize(
    ("info", "source", "value"),
    [
        (FUNCTION, "def f(x): return x * 2", 1.0),
        (FUNCTION, "def f(x): return x + 1", -0.3),
        (FUNCTION, "def f(x): return 4 if x else 1 / x", -0.6),
        (FUNCTION, "def f(x): return x if x else 1 / x", -0.6),  # one fails, one raises: the worse counts
        (FUNCTION, "import nowhere", -0.6),
        (FUNCTION, "def f(x) return", -1.0),
        (PROGRAM, "print(int(input()) ** 2)", 1.0),
        (PROGRAM, "print(1)", -0.3),
        (PROGRAM, "n = int(input())\nprint(n if n == 1 else n / 0)", -0.6),
        (PROGRAM, "print(", -1.0),
    ],
)
def test_a_program_is_paid_by_how_it_ended(info: dict[str, Any], source: str, value: float) -> None:
    score = REWARD(Problem(id="p", messages=(), info=info), f"```python\n{source}\n```")
    assert (score.value, score.verdict) == (value, "correct" if value == 1.0 else "wrong")


def test_an_answer_without_a_program_is_worth_the_least() -> None:
    assert REWARD(Problem(id="p", messages=(), info=FUNCTION), "").value == -1.0
