"""Generated sums: right, repeatable, and never in both train and heldout."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from llmrl import plugins
from llmrl.data.arithmetic import Arithmetic, shuffled
from llmrl.errors import RecipeError
from tests.builders import some


def ids(data: Arithmetic) -> list[str]:
    return [problem.id for problem in data.problems()]


def test_every_answer_is_right() -> None:
    for problem in some(Arithmetic(operators="+-*", low=-3, high=12).problems()):
        question = problem.messages[0]["content"]
        a, op, b = re.fullmatch(r"(-?\d+)([-+*])(-?\d+)=", question).groups()  # type: ignore[union-attr]
        expected = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[op]
        assert (problem.answer, problem.info["operator"]) == (str(expected), op)


def test_train_and_heldout_share_the_space_without_overlap() -> None:
    train = ids(Arithmetic(operators="+-", high=39))
    heldout = ids(Arithmetic(operators="+-", high=39, split="heldout"))
    assert len(set(train)) + len(set(heldout)) == len(train) + len(heldout) == 2 * 40 * 40
    assert 0.15 < len(heldout) / 3200 < 0.25


def test_no_setting_lets_a_problem_cross_over() -> None:
    train = {problem.id for problem in Arithmetic(seed=3, high=49).problems()}
    for other in (Arithmetic(seed=7, high=20, split="heldout"), Arithmetic(low=5, high=99, count=500, split="heldout")):
        for problem in other.problems():
            a, b = problem.id.removeprefix("arithmetic/").split("+")
            assert not {f"arithmetic/{a}+{b}", f"arithmetic/{b}+{a}"} & train


def test_the_order_is_the_seeds_and_count_takes_the_first() -> None:
    assert ids(Arithmetic(seed=1)) == ids(Arithmetic(seed=1))
    assert ids(Arithmetic(seed=1)) != ids(Arithmetic(seed=2))
    assert ids(Arithmetic(seed=1, count=5)) == ids(Arithmetic(seed=1))[:5]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_shuffled_is_a_permutation(size: int) -> None:
    assert sorted(shuffled(i, size, seed=5) for i in range(size)) == list(range(size))


def test_a_space_too_large_to_hold_is_read_lazily() -> None:
    assert len(list(islice(Arithmetic(high=10**9).problems(), 20))) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operators": "+/"}, r"expected some of \+ - \*"),
        ({"low": 5, "high": 4}, "low 5 is above high 4"),
        ({"count": 0}, "at least 1"),
        ({"split": "test"}, "data.split"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        plugins.build("data", {"name": "arithmetic", **options})
