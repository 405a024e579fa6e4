"""Environments in the form of TRL's `environment_factory`: a class whose public methods are tools."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from llmrl.errors import RecipeError
from llmrl.plugins import find
from llmrl.recipe.ranges import Count
from llmrl.scoring.trl_functions import finite
from llmrl.tool_calls.episode import OpenTools, ToolEpisode
from llmrl.tool_calls.functions import ToolFunction, of_python
from llmrl.types import Message, Observation, Problem

NO_TOOLS = ("reset", "get_reward")


@dataclass(frozen=True)
class Methods:
    """The public methods of an environment, as a tool."""

    instance: Any

    @asynccontextmanager
    async def functions(self) -> AsyncIterator[Sequence[ToolFunction]]:
        """The methods with their schemas."""
        names = [name for name, _ in inspect.getmembers(type(self.instance), predicate=inspect.isfunction)]
        public = [name for name in names if not name.startswith("_") and name not in NO_TOOLS]
        yield [of_python(getattr(self.instance, name), "env.factory") for name in public]


@dataclass(slots=True)
class TrlEpisode:
    """An episode of such an environment: `reset` with the columns of the problem, `get_reward` at the end."""

    instance: Any
    inner: ToolEpisode

    async def reset(self) -> Observation:
        """Return the problem, with the text that `reset` gives behind its last message."""
        problem = self.inner.problem
        columns = {"answer": problem.answer, **problem.info, "prompt": list(problem.messages)}
        added = await _called(self.instance.reset, columns)
        first = await self.inner.reset()
        if not added:
            return first
        *before, last = first.messages
        asked: Message = {**last, "content": f"{last['content']}{added}"}
        return Observation(messages=[*before, asked], tools=first.tools)

    async def step(self, message: Message) -> Observation:
        """Answer calls; at the end, with the environment's own reward."""
        seen = await self.inner.step(message)
        if not seen.done:
            return seen
        own = getattr(self.instance, "get_reward", None)
        reward = 0.0 if own is None else finite(await _called(own, {}))
        return Observation(done=True, reward=reward, metrics=seen.metrics)

    async def close(self) -> None:
        """Let it go."""
        await self.inner.close()


@dataclass(frozen=True, kw_only=True)
class TrlEnvironments:
    """Options of the environment `trl`. Each episode has an instance of its own; in a thread, where methods block."""

    factory: str  # package.module:Class, or a function without arguments that makes one
    max_calls: Count = 8  # of a turn
    max_characters: Count = 4000  # of the answer of a call

    def __post_init__(self) -> None:
        self.made_by()

    def made_by(self) -> Callable[[], Any]:
        """Import what makes an instance.

        Raises:
            RecipeError: it cannot be imported.
        """
        factory: Callable[[], Any] = find("env", self.factory, "env.factory")
        return factory

    def make(self, problem: Problem) -> TrlEpisode:
        """Make an instance for an episode."""
        instance = self.made_by()()
        if not callable(getattr(instance, "reset", None)):
            raise RecipeError(f"env.factory {self.factory!r}: its instances have no `reset`, which TRL demands")
        tools = OpenTools(tools=[Methods(instance)])
        limits: Mapping[str, int] = {"max_calls": self.max_calls, "max_characters": self.max_characters}
        return TrlEpisode(instance, ToolEpisode(problem=problem, tools=tools, **limits))


async def _called(method: Callable[..., Any], columns: Mapping[str, Any]) -> Any:
    """Call with those columns that the method takes."""
    parameters = inspect.signature(method).parameters
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    given = {name: value for name, value in columns.items() if takes_all or name in parameters}
    if inspect.iscoroutinefunction(method):
        return await method(**given)
    return await asyncio.to_thread(method, **given)


plugin = TrlEnvironments
