"""An episode with tools: each turn's calls are answered, and an answer without a call ends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from llmrl.errors import RecipeError
from llmrl.tool_calls.forms import ToolCall
from llmrl.tool_calls.functions import Tool, ToolFunction, answered
from llmrl.types import Message, Observation, Problem


@dataclass(slots=True, kw_only=True)
class OpenTools:
    """Tools that are open: they live in a task of their own, for some may be closed only where they were opened."""

    tools: Sequence[Tool]
    functions: dict[str, ToolFunction] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _opened: asyncio.Event = field(default_factory=asyncio.Event)
    _done: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        """Open them all; raises what the first that fails does."""
        self._task = asyncio.ensure_future(self._hold())
        waited = asyncio.ensure_future(self._opened.wait())
        await asyncio.wait({self._task, waited}, return_when=asyncio.FIRST_COMPLETED)
        waited.cancel()
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        """Close them; safe to call twice."""
        self._done.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def _hold(self) -> None:
        async with AsyncExitStack() as stack:
            for tool in self.tools:
                for function in await stack.enter_async_context(tool.functions()):
                    if function.name in self.functions:
                        raise RecipeError(f"env.tools: two tools are called {function.name!r}; expected other names")
                    self.functions[function.name] = function
            self._opened.set()
            await self._done.wait()


@dataclass(slots=True, kw_only=True)
class ToolEpisode:
    """Shows a problem with schemas of tools, answers calls, and ends with the first answer that calls nothing."""

    problem: Problem
    tools: OpenTools
    max_calls: int
    max_characters: int
    calls: int = 0
    malformed: int = 0

    async def reset(self) -> Observation:
        """Open the tools; show the problem."""
        await self.tools.open()
        schemas = [function.schema for function in self.tools.functions.values()]
        return Observation(messages=self.problem.messages, tools=schemas)

    async def step(self, message: Message) -> Observation:
        """Answer the calls of a message, or the reason why none can be read; else end the episode."""
        if error := message.get("tool_error"):
            self.malformed += 1
            return Observation(messages=[{"role": "tool", "content": f"error: {error}"}], metrics=self.metrics())
        calls = calls_of(message)
        if not calls:
            return Observation(done=True, metrics=self.metrics())
        self.calls += len(calls)
        limits = {"max_calls": self.max_calls, "max_characters": self.max_characters}
        messages = await answered(calls, self.tools.functions, **limits)
        return Observation(messages=messages, metrics=self.metrics())

    async def close(self) -> None:
        """Close the tools."""
        await self.tools.close()

    def metrics(self) -> Mapping[str, float]:
        """Numbers of the episode."""
        return {"tool_calls": float(self.calls), "malformed_calls": float(self.malformed)}


def calls_of(message: Message) -> list[ToolCall]:
    """Calls of an assistant's message in OpenAI's form, arguments as objects or as JSON."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    read = [call["arguments"] for call in calls]
    given = [json.loads(arguments) if isinstance(arguments, str) else arguments for arguments in read]
    return [ToolCall(call["name"], arguments) for call, arguments in zip(calls, given, strict=True)]
