"""Questions that the policy answers with tools: it may call them turn after turn, and its first other answer counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from llmrl.plugins import build
from llmrl.recipe.ranges import Count
from llmrl.tool_calls.episode import OpenTools, ToolEpisode
from llmrl.tool_calls.functions import Tool, ToolFunction, named
from llmrl.types import Message, Problem


@dataclass(frozen=True)
class PythonFunctions:
    """Python functions by name, `package.module:function`, as a tool."""

    paths: Sequence[str]

    @asynccontextmanager
    async def functions(self) -> AsyncIterator[Sequence[ToolFunction]]:
        """The functions with their schemas."""
        yield [named(path, "env.tools") for path in self.paths]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Options of the environment `tools`."""

    tools: Sequence[str | Mapping[str, Any]]  # plug-ins with their options, or `package.module:function`
    max_calls: Count = 8  # of a turn; further ones are refused
    max_characters: Count = 4000  # of the answer of a call; a longer one is cut, and says so

    def __post_init__(self) -> None:
        if isinstance(self.tools, str) or not self.tools:
            raise ValueError(f"tools {self.tools!r}: expected a list of at least one")
        if self.max_calls < 1 or self.max_characters < 1:
            raise ValueError("max_calls and max_characters must be at least 1")
        self.built()

    def built(self) -> list[Tool]:
        """The tools, closed.

        Raises:
            RecipeError: there is none of a name, or it refuses its options.
        """
        return [_built(spec, f"env.tools[{number}]") for number, spec in enumerate(self.tools)]

    def first_messages(self, problem: Problem) -> Sequence[Message]:
        """The problem's messages; schemas of tools, which are known when the tools are open, come on top."""
        return problem.messages

    def make(self, problem: Problem) -> ToolEpisode:
        """Make an episode of this problem, with tools of its own."""
        return ToolEpisode(
            problem=problem,
            tools=OpenTools(tools=self.built()),
            max_calls=self.max_calls,
            max_characters=self.max_characters,
        )


def _built(spec: str | Mapping[str, Any], where: str) -> Tool:
    if isinstance(spec, str) and ":" in spec:
        named(spec, where)  # refused now, not in the first episode
        return PythonFunctions([spec])
    tool: Tool = build("tool", spec, where)
    return tool


plugin = Tools
