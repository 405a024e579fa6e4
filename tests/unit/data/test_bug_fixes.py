"""Generated functions to repair: what they hold, and that their own rewards accept the reference."""

from __future__ import annotations

import pytest

from llmrl.data.bug_fixes import BugFixes
from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.rewards.swe_similarity import SweSimilarity
from llmrl.rewards.swe_tests import SweTests
from llmrl.swe.bugs import BODIES, INPUTS, Bug, bugs
from llmrl.types import Problem


def test_a_bug_by_hand() -> None:
    bug = Bug("add", "subtract", ("a", "b"), "calc")
    assert bug.issue() == "add(5, 3) must be 8."
    assert bug.text(bug.wrong) == "def add(a, b):\n    return a - b\n"
    assert bug.outcomes() == ([f"test_calc.Tests.test_{n}" for n in range(4)], [])
    assert Bug("larger", "first", ("a", "b"), "calc").outcomes() == (
        ["test_calc.Tests.test_1", "test_calc.Tests.test_2"],  # of (5, 3), (2, 7), (4, 9), (8, 6)
        ["test_calc.Tests.test_0", "test_calc.Tests.test_3"],
    )


def test_every_two_functions_differ() -> None:
    values = {name: tuple(value(*pair) for pair in INPUTS) for name, (_, value) in BODIES.items()}
    assert len(set(values.values())) == len(BODIES)


def test_the_split_is_of_the_tasks() -> None:
    train = [problem.id for problem in BugFixes().problems()]
    held = [problem.id for problem in BugFixes(split="heldout", seed=5).problems()]
    assert len(set(train)) + len(set(held)) == len(list(bugs())) == 1344
    assert not set(train) & set(held)
    assert 0.15 < len(held) / 1344 < 0.25
    assert train == [problem.id for problem in BugFixes().problems()]
    assert train != [problem.id for problem in BugFixes(seed=1).problems()]
    assert len(list(BugFixes(count=3).problems())) == 3
    small = [
        problem.id
        for split in ("train", "heldout")
        for problem in BugFixes(split=split, modules=1, arguments=2).problems()
    ]
    assert len(small) == 112
    for wrong in ({"count": 0}, {"modules": 5}, {"arguments": 0}):
        with pytest.raises(RecipeError, match="expected"):
            build("data", {"name": "bug_fixes", **wrong})


@pytest.mark.parametrize("problem", list(BugFixes(count=3).problems()), ids=lambda problem: problem.id)
def test_rewards_accept_the_reference_and_nothing_less(problem: Problem) -> None:
    tests = SweTests(timeout_s=60.0, form="strict", malformed=-1.0)
    assert SweSimilarity()(problem, problem.answer).value == 1.0
    assert tests(problem, problem.answer).verdict == "correct"
    (path, text), *_ = problem.info["files"].items()
    repaired = problem.info["oracle_new"][path].splitlines()[1]
    broken = problem.answer.replace(f"{repaired}\n>", "    return None\n>")
    assert (tests(problem, broken).value, tests(problem, broken).verdict) == (0.0, "wrong")
    assert tests(problem, f"{path}: {text}").value == -1.0
