"""Columns reach reward functions as the data has them, whatever another function did; and what functions give back."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrl.errors import DataError, RecipeError
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.scoring.reserved import require_free
from llmrl.scoring.trl_functions import RESERVED, finite
from llmrl.types import Problem, Score, Trajectory
from tests import builders
from tests.builders import some

FUNCTIONS = """
import functools

def plain(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

def bare(function):
    return lambda **columns: function(**columns)

@plain
async def decorated(completions, **columns):
    return [1.0] * len(completions)

def spoils(prompts, completions, tags, **columns):
    first = len(tags[0]) + len(prompts[0]) + sum(map(len, tags))
    for row in (*tags, *prompts, *completions):
        row.append("more")
    prompts[0][0]["content"] = "?"
    return [float(first)] * len(completions)

def late(completions, **columns):
    raise TimeoutError("no answer of the database")

def kinds(completions, answer, level, meta, **columns):
    return [float((type(a), l, m) == (int, 3, {"a": [1.5, None, True]})) for a, l, m in zip(answer, level, meta)]

def shaped(prompts, completions, **columns):
    return [float(isinstance(p, str)) + 2.0 * isinstance(c, str) for p, c in zip(prompts, completions)]

def weighs(completions, weights, **columns):
    weights.append(1.0)
    return [sum(weights)] * len(completions)

def compute_score(data_source, solution_str, ground_truth, extra_info, bonus=()):
    if bonus:
        bonus.append(1.0)
    extra_info["tags"].append("more")
    return float(len(extra_info["tags"])) + sum(bonus)

def reward_func(queries, prompts, labels):
    return [1.0 if isinstance(label, int) else 0.0 for label in labels]

def leaves(completions, **columns):
    raise SystemExit(3)
"""
HERE = "functions_for_columns"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GradingPool]:
    folder = tmp_path_factory.mktemp("functions")
    (folder / f"{HERE}.py").write_text(FUNCTIONS)
    sys.path.insert(0, str(folder))
    with GradingPool(workers=1, timeout_s=5.0) as pool:
        yield pool
    sys.path.remove(str(folder))
    sys.modules.pop(HERE, None)


def group(size: int = 2, **facts: Any) -> list[Trajectory]:
    given = {"id": "p", "messages": [{"role": "user", "content": "2+2?"}], "answer": "4"} | facts
    return builders.episodes(*["4"] * size, problem=Problem(**given))


def score(reward: Any, episodes: list[Trajectory], pool: GradingPool) -> list[Score]:
    made = build("reward", reward) if isinstance(reward, dict) else reward
    return asyncio.run(as_group_reward(made, pool).score(episodes))


def named(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(__import__(HERE), name)
    return function


def in_a_thread(name: str) -> Callable[..., Any]:
    """The function behind one that no process can import."""
    return lambda prompts, completions, **columns: named(name)(prompts=prompts, completions=completions, **columns)


@pytest.mark.parametrize("place", [named, in_a_thread])
def test_what_a_function_changes_nobody_else_sees(place: Any, pool: GradingPool) -> None:
    episodes = group(info={"tags": ["a", "b"]})
    expected = Score(2.0 + 1.0 + 4.0)
    assert score(place("spoils"), episodes, pool) == [expected] * 2
    assert score(place("spoils"), episodes, pool) == [expected] * 2
    assert episodes[0].problem == group(info={"tags": ["a", "b"]})[0].problem


def test_an_async_function_changes_nothing_either(pool: GradingPool) -> None:
    async def spoils(completions: Any, tags: Any, **columns: Any) -> list[float]:
        tags[0].append("more")
        return [float(len(row)) for row in tags]

    episodes = group(info={"tags": ["a"]})
    assert score(spoils, episodes, pool) == score(spoils, episodes, pool) == [Score(2.0), Score(1.0)]


def test_a_group_reward_changes_nothing_either(pool: GradingPool) -> None:
    class Spoils:
        async def score(self, given: Any) -> list[Score]:
            given[0].problem.info["tags"].append("more")
            given[0].problem.messages[0]["content"] = "?"
            return [Score(float(len(one.problem.info["tags"]))) for one in given]

    episodes = group(info={"tags": ["a"]})
    assert score(Spoils(), episodes, pool) == score(Spoils(), episodes, pool) == [Score(2.0), Score(2.0)]
    assert episodes[0].problem.messages == [{"role": "user", "content": "2+2?"}]


def test_arguments_of_the_recipe_stay_as_they_are(pool: GradingPool) -> None:
    for _ in range(2):
        trl = {"name": "trl", "function": f"{HERE}:weighs", "kwargs": {"weights": [2.0]}}
        assert score(trl, group(), pool) == [Score(3.0)] * 2
        verl = {
            "name": "verl",
            "function": f"{HERE}:compute_score",
            "data_source": "x",
            "reward_kwargs": {"bonus": [2.0]},
        }
        assert score(verl, group(info={"extra_info": {"tags": []}}), pool) == [Score(4.0)] * 2


def test_types_are_those_of_the_data(pool: GradingPool, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "2+2?", "answer": 4, "level": 3, "meta": {"a": [1.5, null, true]}}\n')
    (problem,) = build("data", {"name": "jsonl", "path": str(path)}).problems()
    assert problem.answer == "4"
    assert score(named("kinds"), builders.episodes("4", problem=problem), pool) == [Score(1.0)]
    openrlhf = {"name": "openrlhf", "function": f"{HERE}:reward_func"}
    assert score(openrlhf, builders.episodes("4", problem=problem), pool) == [Score(1.0)]
    assert score(openrlhf, group(1, info={"label": 5}), pool) == [Score(0.0)]


def test_plain_prompts_are_strings_and_chats_are_messages(pool: GradingPool) -> None:
    assert score(named("shaped"), group(1, plain=True), pool) == [Score(3.0)]
    assert score(named("shaped"), group(1), pool) == [Score(0.0)]


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_names_in_the_data_are_refused(name: str, pool: GradingPool) -> None:
    with pytest.raises(DataError, match=rf"problem p: the data has a column '{name}', and spoils is passed something"):
        score(named("spoils"), group(info={"tags": [], name: 1}), pool)

    def names_few(completions: Any, tags: Any) -> list[float]:
        return [1.0] * len(completions)

    if name != "completions":
        assert score(names_few, group(info={"tags": [], name: 1}), pool) == [Score(1.0)] * 2
    with pytest.raises(RecipeError, match=rf"kwargs.{name}: each call gets its own"):
        build("reward", {"name": "trl", "function": f"{HERE}:weighs", "kwargs": {name: 1}})


SPOILS = {"name": f"{HERE}:spoils"}
VERL = {"name": "verl", "function": f"{HERE}:compute_score", "data_source": "x"}


@pytest.mark.parametrize(
    "reward",
    [
        SPOILS,
        VERL,
        {"name": "trl", "function": f"{HERE}:spoils"},
        {"name": "mix", "parts": {"numeric": 1.0, "own": SPOILS | {"weight": 1.0}}},
        {"name": "mix", "parts": {"verl": VERL | {"weight": 1.0}}},
        {"name": "by_source", "sources": {"web": SPOILS, "clean": {"name": "numeric"}}},
        {"name": "degenerate", "of": {"name": "mix", "parts": {"own": SPOILS | {"weight": 1.0}}}},
    ],
)
def test_a_run_finds_them_in_its_data_before_anything_is_scored(reward: dict[str, Any], pool: GradingPool) -> None:
    scorer = as_group_reward(build("reward", reward), pool)
    taken = {"tags": [], "source": "web", "completions": 1, "extra_info": {"num_turns": 1}}
    row = Problem(id="p", messages=(), answer="1", info={"tags": [], "source": "web"})
    require_free(scorer, [row])
    with pytest.raises(
        DataError, match=r"^problem q: (the data has a column 'completions'|extra_info has 'num_turns')"
    ):
        require_free(scorer, [row, replace(row, id="q", info=taken)])
    if reward["name"] == "by_source":
        require_free(scorer, [replace(row, info=taken | {"source": "clean"})])


def test_an_argument_that_the_data_has_too_is_an_error(pool: GradingPool) -> None:
    trl = {"name": "trl", "function": f"{HERE}:weighs", "kwargs": {"weights": [2.0]}}
    (bad,) = score(trl, group(1, info={"weights": [1.0]}), pool)
    assert bad.verdict == "error"
    assert "kwargs.weights: the data has a column of that name" in bad.reason


@pytest.mark.parametrize("name", ["num_turns", "rollout_reward_scores"])
def test_what_verl_fills_itself_is_refused_in_the_data(name: str, pool: GradingPool) -> None:
    verl = {"name": "verl", "function": f"{HERE}:compute_score", "data_source": "x"}
    with pytest.raises(DataError, match=rf"problem p: extra_info has '{name}', which verl fills itself"):
        score(verl, group(info={"extra_info": {"tags": [], name: 1}}), pool)


# what functions give back


def test_async_functions_behind_plain_decorators(pool: GradingPool) -> None:
    async def own(completions: Any) -> list[float]:
        return [2.0] * len(completions)

    assert score(named("decorated"), group(), pool) == [Score(1.0)] * 2
    assert score(named("plain")(own), group(), pool) == [Score(2.0)] * 2
    assert score(functools.partial(own), group(), pool) == [Score(2.0)] * 2
    assert score(lambda completions: own(completions), group(), pool) == [Score(2.0)] * 2


async def _late(completions: Any) -> list[float]:
    raise TimeoutError("no answer of the database")


def _late_here(completions: Any) -> list[float]:
    raise TimeoutError("no answer of the database")


@pytest.mark.parametrize(
    "function", [_late, lambda completions: _late(completions), lambda completions: _late_here(completions), "late"]
)
def test_a_timeout_of_its_own_is_the_functions_fault(function: Any, pool: GradingPool) -> None:
    function = named(function) if isinstance(function, str) else function
    for given in some(score(function, group(), pool)):
        assert given.verdict == "error"
        assert "raised TimeoutError: no answer of the database" in given.reason


def test_a_function_that_leaves_ends_no_run(pool: GradingPool) -> None:
    (given,) = score(in_a_thread("leaves"), group(1), pool)
    assert (given.verdict, "raised SystemExit: 3" in given.reason) == ("error", True)


NUMBERS = [
    1,
    2.5,
    True,
    np.float32(0.5),
    np.int64(3),
    np.bool_(True),
    np.float16(0.25),
    Decimal("0.5"),
    Fraction(1, 2),
    3e38,
]
BROKEN = type("Broken", (), {"__float__": lambda self: 1 / 0, "__repr__": lambda self: 1 / 0})()
NO_NUMBERS = [
    1e300,
    -1e300,
    10**400,
    pytest.param(10**5000, id="digits"),
    float("inf"),
    float("nan"),
    np.float64("inf"),
    np.float64(1e300),
    3.5e38,
    1 + 2j,
    np.complex64(1),
    np.complex128(1),
    "1.0",
    b"1.0",
    bytearray(b"1"),
    np.str_("1"),
    [1.0],
    {},
    object(),
    pytest.param(BROKEN, id="broken"),
]


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers(value: Any) -> None:
    assert finite(value) == float(value)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_of_a_reward_is_named_with_its_function(value: Any, pool: GradingPool) -> None:
    def mine(completions: Any) -> list[Any]:
        return [value, 1.0]

    bad, good = score(mine, group(), pool)
    assert (bad.value, bad.verdict, good) == (None, "error", Score(1.0))
    assert bad.reason.startswith("problem p: mine returned ")
    assert "expected a finite number" in bad.reason


class Gives:
    """A verifier that returns what it holds."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, problem: Problem, text: str) -> Any:
        return self.value


SENSELESS = [
    (Score(1e300), "returned 1e+300; expected a finite number of at most 3.4e38"),
    (Score(float("nan")), "returned nan"),
    (Score("1.0"), "returned '1.0'"),  # type: ignore[arg-type]
    (Score(1.0, "Correct"), "returned verdict 'Correct'; expected one of correct, wrong"),  # type: ignore[arg-type]
    (Score(1.0, token_rewards=[0.0, float("inf")]), "returned token_rewards with inf"),
    (Score(1.0, steps=[float("nan")]), "returned steps with nan"),
    (1.0, "returned float; expected a Score"),
    (None, "returned NoneType; expected a Score"),
]


@pytest.mark.parametrize(("value", "said"), SENSELESS)
@pytest.mark.parametrize("grouped", [False, True])
def test_scores_that_teach_nothing_are_errors(value: Any, said: str, grouped: bool, pool: GradingPool) -> None:
    class Judge:
        async def score(self, given: Any) -> list[Any]:
            return [value] * len(given)

    for given in some(score(Judge() if grouped else Gives(value), group(), pool)):
        assert (given.value, given.verdict) == (None, "error")
        assert f"problem p: {'Judge' if grouped else 'Gives'} {said}" in given.reason


def test_a_group_reward_that_gives_no_list_is_named(pool: GradingPool) -> None:
    class Judge:
        async def score(self, given: Any) -> Any:
            return None

    assert "its score() returned NoneType; expected a list of Score" in score(Judge(), group(1), pool)[0].reason


def test_the_sum_of_a_mix_is_finite_too(pool: GradingPool) -> None:
    parts = {"length": 1.0, "again": {"name": "length", "weight": 1e300}}
    (given,) = score({"name": "mix", "parts": parts}, group(1), pool)
    assert (given.value, given.verdict) == (None, "error")
    assert "problem p: mix returned 1e+300" in given.reason
