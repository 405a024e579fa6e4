"""Tasks of reasoning-gym: each that is used pays its own answer, pays no nonsense, and is the same in every process.

Where the extra `reasoning-gym` is not installed, the tests of tasks skip, and say so.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.datafiles.gym_tasks import LEFT_OUT, tasks
from llmrl.errors import DataError, LlmrlError, RecipeError
from llmrl.types import Problem
from tests.builders import some

ROOT = Path(__file__).parents[3]
INSTALLED = importlib.util.find_spec("reasoning_gym") is not None
needs_gym = pytest.mark.skipif(not INSTALLED, reason="reasoning-gym is not installed: the extra `reasoning-gym`")
NONSENSE = ("nonsense", "I do not know.", "xyzzy plugh", "???", "lorem ipsum dolor sit amet", "None of them, I fear")


def read(**options: Any) -> list[Problem]:
    return list(plugins.build("data", {"name": "reasoning_gym", **options}).problems())


@cache
def problems() -> dict[str, list[Problem]]:
    """Three problems of each task."""
    found: dict[str, list[Problem]] = {}
    for problem in read(count=3, seed=5):
        found.setdefault(problem.info["task"], []).append(problem)
    return found


@needs_gym
@pytest.mark.parametrize("task", tasks() if INSTALLED else ["any"])
def test_a_task_pays_its_own_answer_and_no_nonsense(task: str) -> None:
    reward = plugins.build("reward", "reasoning_gym")
    for problem in some(problems()[task]):
        own = reward(problem, f"<think>hm</think> <answer>{problem.answer}</answer>")
        assert (own.value, own.verdict) == (1.0, "correct"), own.reason
        for text in NONSENSE:
            score = reward(problem, f"<answer>{text}</answer>")
            assert (score.value, score.verdict) == (0.0, "wrong"), text
        assert reward(problem, str(problem.answer)).verdict == "unparsable"


@needs_gym
def test_problems_are_the_same_in_every_process() -> None:
    """Python's hashes of texts differ in the other process, as they do between ranks."""
    own = [problem for of_task in problems().values() for problem in of_task]
    code = (
        "from tests.unit.data.test_reasoning_gym import *\n"
        "print(json.dumps({n: digest(each) for n, each in problems().items()}))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT, check=True
    )
    assert json.loads(done.stdout[done.stdout.index("{") :]) == {
        name: digest(each) for name, each in problems().items()
    }
    assert len({problem.id for problem in own}) == len(own)


def digest(of_task: list[Problem]) -> str:
    plain = [[problem.messages, problem.answer, problem.info["entry"]] for problem in of_task]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@needs_gym
def test_tasks_come_in_turn_with_their_options() -> None:
    options = {"chain_sum": {"min_terms": 2, "max_terms": 2}}
    found = read(tasks=["chain_sum", "gcd"], count=2, config=options)
    assert [p.id for p in found] == [f"reasoning_gym/{task}/0/{i}" for i in range(2) for task in ("chain_sum", "gcd")]
    assert found[0].info["config"] == options["chain_sum"]
    assert "<answer>" in str(found[0].messages[0]["content"])
    assert read(tasks=["gcd"], count=2, seed=1)[0].messages != found[1].messages


@needs_gym
def test_partial_marks_are_given_where_they_are_asked_for() -> None:
    (problem,) = read(tasks=["spell_backward"], count=1)
    wrong = f"<answer>{problem.answer[:-1]}#</answer>"
    assert plugins.build("reward", "reasoning_gym")(problem, wrong).value == 0.0
    partly = plugins.build("reward", {"name": "reasoning_gym", "partial": True})(problem, wrong)
    assert 0 < partly.value < 1
    assert partly.verdict == "wrong"
    whole = plugins.build("reward", {"name": "reasoning_gym", "tags_required": False})
    assert whole(problem, problem.answer).verdict == "correct"


@needs_gym
def test_tasks_that_are_not_used_say_why() -> None:
    for name, reason in LEFT_OUT.items():
        with pytest.raises(DataError, match=f"task '{name}' is left out: {reason}"):
            read(tasks=[name])
    with pytest.raises(DataError, match="no task 'chain_sums'; did you mean 'chain_sum'"):
        read(tasks=["chain_sums"])
    with pytest.raises(DataError, match="task 'gcd' refuses"):
        read(tasks=["gcd"], config={"gcd": {"nothing": 1}})


@pytest.mark.skipif(INSTALLED, reason="reasoning-gym is installed")
def test_what_to_install_is_said() -> None:
    with pytest.raises(LlmrlError, match=r"pip install 'llmrl\[reasoning-gym\]'"):
        read()


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecipeError, match="config of gcd: not among tasks"):
        plugins.build("data", {"name": "reasoning_gym", "tasks": ["chain_sum"], "config": {"gcd": {}}})
    with pytest.raises(RecipeError, match=r"data\.count: input should be greater than or equal to 1; found 0"):
        plugins.build("data", {"name": "reasoning_gym", "count": 0})


def test_a_problem_of_other_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected data: \{name: reasoning_gym\}"):
        plugins.build("reward", "reasoning_gym")(Problem(id="1", messages=[]), "<answer>1</answer>")
