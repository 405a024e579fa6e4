"""Environments written for verifiers up to version 0.1: `MultiTurnEnv`, whose `env_response` answers the model.

Its later releases ask stop conditions by `is_completed(state)` and keep the turns in `state["trajectory"]`; earlier
ones ask `is_completed(messages, state)`. From 0.2 on there is no such class: tasks of these are a reward, `verifiers`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import chain, count
from typing import Any

from llmrl.errors import RecipeError
from llmrl.plugins import find
from llmrl.scoring.trl_functions import accepted, finite
from llmrl.types import Message, Observation, Problem

LIMITS = ("max_turns_reached", "prompt_too_long")
"""Stop conditions of verifiers' own that are no end of the task."""


@dataclass(slots=True)
class VerifiersEpisode:
    """An episode by an environment's own methods; its rubric scores the state at the end."""

    env: Any
    problem: Problem
    scored: bool
    state: dict[str, Any] = field(default_factory=dict)

    async def reset(self) -> Observation:
        """Set the state up; show the problem."""
        info = dict(self.problem.info)
        facts = {"prompt": list(self.problem.messages), "answer": self.problem.answer, "info": info}
        facts |= {"task": info.get("task", "default"), "example_id": self.problem.id}
        self.state = {**facts, "input": facts, "completion": [], "turn": 0, "responses": [], "trajectory": []}
        self.state |= {"is_completed": False, "reward": None, "metrics": None, "error": None, "timing": _timing()}
        if callable(setup := getattr(self.env, "setup_state", None)):
            self.state = await _awaited(setup(self.state)) or self.state
        return Observation(messages=self.state["prompt"])

    async def step(self, message: Message) -> Observation:
        """Ask the environment if it is over, else for its answer."""
        answer = dict(message)
        turn = {"prompt": self._messages, "completion": [answer], "response": None, "tokens": None, "reward": None}
        self.state["trajectory"].append(turn | {"advantage": None, "extras": {}})
        self.state["completion"].append(answer)
        self.state["turn"] += 1
        most = getattr(self.env, "max_turns", None) or -1
        over = await self._completed()
        if over or self.state["turn"] == most:
            cut = not over or self.state.get("stop_condition") in LIMITS
            return Observation(done=True, cut=cut, **(await self._scores()))
        reply = await _awaited(self.env.env_response(self._messages, self.state))
        if isinstance(reply, tuple):  # of older versions
            reply, self.state = reply
        messages = [{"role": "user", "content": reply}] if isinstance(reply, str) else list(reply)
        self.state["completion"] += messages
        return Observation(messages=messages)

    async def close(self) -> None:
        """Release what the episode holds, once: the environment itself serves others."""
        release = getattr(self.env, "_cleanup", None)
        if callable(release) and self.state and not self.state["is_completed"]:
            self.state["is_completed"] = True  # where it ended by itself, its environment has done so
            await _awaited(release(self.state))

    @property
    def _messages(self) -> list[Message]:
        return [*self.state["prompt"], *self.state["completion"]]

    async def _completed(self) -> bool:
        """Ask `is_completed`, of the messages and the state, or of the state alone."""
        method = self.env.is_completed
        given = accepted(method, {"messages": self._messages, "state": self.state})
        return bool(await _awaited(method(**given)))

    async def _scores(self) -> Mapping[str, Any]:
        """Reward and metrics: the weighed sum of the rubric's functions, and the value of each."""
        rubric = getattr(self.env, "rubric", None)
        if not self.scored or rubric is None:
            return {}
        reward, values = 0.0, dict[str, float]()
        for part in _parts(rubric):
            functions: Sequence[Any] = getattr(part, "funcs", None) or getattr(part, "reward_funcs", None) or ()
            weights = getattr(part, "weights", None) or getattr(part, "reward_weights", None) or [1.0] * len(functions)
            columns = {**self.state, "state": self.state, "parser": getattr(part, "parser", None)}
            columns |= getattr(part, "class_objects", {})
            for function, weight in zip(functions, weights, strict=True):
                value = finite(await _awaited(function(**accepted(function, columns))))
                values[_free(function.__name__, values)] = value
                reward += finite(weight) * value
        return {"reward": reward, "metrics": values}


@dataclass(frozen=True, kw_only=True)
class VerifiersEnvironments:
    """Options of the environment `verifiers`. One instance serves all episodes: its state is in `state`, as theirs is.
    Each process makes one.

    The recipe's data are the problems: an environment's own dataset is not read.
    """

    environment: str  # package.module:load_environment, or an instance, or a class without arguments
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)  # for that
    scored: bool = True  # by its rubric, as the reward of the last turn; False: by the recipe's reward alone

    def __post_init__(self) -> None:
        self._instance  # noqa: B018 - what cannot be made is refused here

    def made(self) -> Any:
        """The environment.

        Raises:
            RecipeError: it cannot be imported, or lacks a method.
        """
        found = find("env", self.environment, "env.environment")
        env = found if hasattr(found, "env_response") and not isinstance(found, type) else found(**self.kwargs)
        for method in ("env_response", "is_completed"):
            if not callable(getattr(env, method, None)):
                raise RecipeError(
                    f"env.environment {self.environment!r}: it has no {method}; expected a MultiTurnEnv of verifiers "
                    "up to 0.1; a Task of later versions is a reward: {name: verifiers, rubric: package.module:Task}"
                )
        return env

    def make(self, problem: Problem) -> VerifiersEpisode:
        """Make an episode."""
        return VerifiersEpisode(self._instance, problem, self.scored)

    def __getstate__(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}  # another process makes its own

    @cached_property
    def _instance(self) -> Any:
        return self.made()


def _parts(rubric: Any) -> Sequence[Any]:
    """The rubrics of a group, those of groups in it among them; else the rubric alone."""
    own = getattr(rubric, "rubrics", None)
    return [rubric] if own is None else [part for inner in own for part in _parts(inner)]


def _free(name: str, taken: Mapping[str, float]) -> str:
    """The name, or the first of `name_2`, `name_3`, ... that is not taken."""
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(free for free in names if free not in taken)


def _timing() -> dict[str, float]:
    return {"generation_ms": 0.0, "scoring_ms": 0.0, "total_ms": 0.0, "start_time": time.time()}


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


plugin = VerifiersEnvironments
