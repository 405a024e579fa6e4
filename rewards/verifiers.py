"""A rubric written for verifiers: functions with weights, which get those data of an episode that they name."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

from llmrl.scoring.foreign import Called, Named, judged, plain
from llmrl.scoring.process_pool import Pool
from llmrl.scoring.transcript import dialogue, opening
from llmrl.scoring.trl_functions import accepted, finite, parameters_of
from llmrl.scoring.verifiers_tasks import TaskRunner, is_task, require_rewards
from llmrl.types import Score, Trajectory, Verdict

PLURAL = {"states", "prompts", "completions", "answers", "tasks", "infos"}  # of functions that judge a whole group


@dataclass(frozen=True, kw_only=True)
class Verifiers:
    """Sum of weight times value over a rubric's functions; each value is a part.

    `rubric` names an object with `funcs` and `weights` (or `rubrics`, each such an object; or `rubric`, as an
    environment has), or a function without arguments that makes one; or a class of tasks of verifiers from 0.2 on,
    whose rewards read a trace (`llmrl.scoring.verifiers_tasks`). Functions get `prompt`, `completion`, `answer`,
    `task`, `info`, `state`, `parser` and what else the rubric holds for them, by name; sync or async; those with plural
    names get the group. A function of weight 0 is only logged. Where one that weighs something raises, abstains or
    returns no finite number, the whole has no value, and the reason names it.

    Raises:
        RecipeError: the rubric cannot be imported, or is no rubric.
    """

    rubric: str  # package.module:attribute
    correct_at: float | None = None  # from which sum on an answer is right; null: the sum gives no verdict

    def __post_init__(self) -> None:
        if not self._is_task:
            _ = read(self.rubric)
        else:
            require_rewards(Named(self.rubric, "rubric"))

    @property
    def _is_task(self) -> bool:
        return is_task(Named(self.rubric, "rubric").itself)

    def as_group_reward(self, pool: Pool) -> Called:
        """Make the group reward: a call in a worker for each answer, or for each group if a function needs it."""
        if self._is_task:
            task = Named(self.rubric, "rubric")
            return Called(task.short, call=TaskRunner(task, self.correct_at), arguments=state, pool=pool)
        together = any(entry.group for entry in read(self.rubric))
        name = Named(self.rubric, "rubric").short
        return Called(name, call=RubricRunner(self), arguments=state, pool=pool, together=together)


@dataclass(frozen=True)
class RubricRunner:
    """A rubric at work in a worker process."""

    options: Verifiers

    def warm_up(self) -> None:
        """Make the rubric, outside the first item's time."""
        _ = read(self.options.rubric)

    def __call__(self, states: list[dict[str, Any]]) -> list[Score]:
        used = read(self.options.rubric)
        columns = asyncio.run(_columns(used, states))
        return [self._sum(used, row) for row in zip(*columns, strict=True)]

    def _sum(self, used: Sequence[Entry], row: Sequence[Any]) -> Score:
        parts: dict[str, float | None] = {}
        broken, missing, total = [], [], 0.0
        for entry, value in zip(used, row, strict=True):
            parts[entry.name] = None if isinstance(value, Broken) else value
            if isinstance(value, Broken) and entry.weight:
                broken.append(f"{entry.name} {value.said}")
            elif value is None and entry.weight:
                missing.append(f"{entry.name} abstained")
            elif entry.weight:
                total += entry.weight * value
        if broken or missing:
            given = [entry for entry in used if entry.weight and parts[entry.name] is not None]
            abstained = not broken and not given
            verdict: Verdict | None = "error" if broken else None
            return Score(None, verdict, parts=parts, reason="; ".join(broken + missing), abstained=abstained)
        return judged(total, self.options.correct_at, parts)


@dataclass(frozen=True)
class Entry:
    """A function of a rubric, with its weight."""

    name: str
    function: Callable[..., Any]
    weight: float
    objects: Mapping[str, Any]  # passed by name: the parser, a judge

    @property
    def group(self) -> bool:
        """Tell whether it judges a whole group at once."""
        return not PLURAL.isdisjoint(parameters_of(self.function))


@dataclass(frozen=True)
class Broken:
    """Failure of a function, in place of its value."""

    said: str


@cache
def read(rubric: str) -> list[Entry]:
    """Read the functions of a rubric by its name, in order; the second of two with the same name is called `name_2`.

    Raises:
        RecipeError: there is nothing of that name.
        ValueError: it holds no functions, or not exactly one weight for each.
    """
    found, where = Named(rubric, "rubric").itself, f"rubric {rubric!r}"
    held = _held(found, where)
    if not held and callable(found):
        held = _held(found(), where)
    if not held:
        raise ValueError(f"{where} holds no functions; expected an object with funcs and weights, or what makes one")
    names = [str(getattr(function, "__name__", type(function).__name__)) for function, _, _ in held]
    counts = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [
        Entry(name if count == 1 else f"{name}_{count}", *one)
        for name, count, one in zip(names, counts, held, strict=True)
    ]


def _held(found: Any, where: str) -> list[tuple[Callable[..., Any], float, Mapping[str, Any]]]:
    """Collect functions, weights and objects."""
    if hasattr(found, "rubrics"):
        return [one for rubric in found.rubrics for one in _held(rubric, where)]
    functions = getattr(found, "funcs", getattr(found, "reward_funcs", None))
    if functions is None:
        return _held(found.rubric, where) if hasattr(found, "rubric") else []
    weights = getattr(found, "weights", getattr(found, "reward_weights", None)) or [1.0] * len(functions)
    if len(weights) != len(functions):
        raise ValueError(f"{where} has {len(functions)} functions and {len(weights)} weights; expected one each")
    objects = {"parser": getattr(found, "parser", None), **getattr(found, "class_objects", {})}
    return [(one, finite(weight), objects) for one, weight in zip(functions, weights, strict=True)]


def state(trajectory: Trajectory) -> dict[str, Any]:
    """Build the `state` of a finished rollout, in the form of verifiers."""
    problem, info = trajectory.problem, trajectory.problem.info
    own = info.get("info", info)
    return {
        "prompt": deepcopy([dict(message) for message in opening(trajectory)]),
        "completion": deepcopy([dict(message) for message in dialogue(trajectory)]),
        "answer": problem.answer,
        "task": info.get("task", "default"),
        "info": json.loads(own) if isinstance(own, str) else deepcopy(dict(own or {})),
        "example_id": problem.id,
        "turn": sum(message["role"] == "assistant" for message in dialogue(trajectory)),
        "is_completed": trajectory.status == "done",
        "is_truncated": trajectory.truncated,
        "reward": None,
        "metrics": {},
    }


async def _columns(used: Sequence[Entry], states: list[dict[str, Any]]) -> list[list[Any]]:
    """Call each function for all episodes, in order, because a function may write data that the next reads."""
    columns = []
    for entry in used:
        if entry.group:
            columns.append(await _together(entry, states))
        else:
            columns.append(list(await asyncio.gather(*(_alone(entry, one) for one in states))))
    return columns


async def _alone(entry: Entry, one: dict[str, Any]) -> Any:
    names = ("prompt", "completion", "answer", "task", "info")
    given = {name: one[name] for name in names} | {"state": one, **entry.objects}
    value = await _value(entry.function, given)
    if value is None or isinstance(value, Broken):
        return value
    return _number(value)


async def _together(entry: Entry, states: list[dict[str, Any]]) -> list[Any]:
    names = ("prompt", "completion", "answer", "task", "info")
    given = {f"{name}s": [one[name] for one in states] for name in names} | {"states": states, **entry.objects}
    values = plain(await _value(entry.function, given))
    if isinstance(values, Broken):
        return [values] * len(states)
    if not isinstance(values, list | tuple) or len(values) != len(states):
        found = f"{len(values)} values" if isinstance(values, list | tuple) else type(values).__name__
        return [Broken(f"returned {found} for {len(states)} completions")] * len(states)
    return [value if value is None else _number(value) for value in values]


async def _value(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call a function: its result, or its failure, so that the others are called all the same."""
    try:
        value = function(**accepted(function, given))
        return await value if inspect.isawaitable(value) else value
    except Exception as error:  # somebody else's code
        return Broken(f"raised {type(error).__name__}: {error}")


def _number(value: Any) -> float | Broken:
    try:
        return finite(value)
    except ValueError as error:
        return Broken(str(error))


plugin = Verifiers
