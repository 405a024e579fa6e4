"""Tools of any MCP server, by the package `mcp`: one that is started, over stdio, or one that runs, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmrl.errors import RecipeError
from llmrl.recipe.ranges import Seconds
from llmrl.tool_calls.functions import ToolFunction


@dataclass(frozen=True, kw_only=True)
class Mcp:
    """Options of the tool `mcp`: `command` or `url`. Each episode has a connection, or a server, of its own."""

    command: Sequence[str] = ()  # of a server to start, such as [python, server.py]
    url: str | None = None  # of a server that runs, such as http://127.0.0.1:8000/mcp
    env: Mapping[str, str] | None = None  # variables for a server that is started
    only: Sequence[str] = ()  # names of its tools to offer; none: all
    timeout_s: Seconds = 30.0  # of a call

    def __post_init__(self) -> None:
        if isinstance(self.command, str) or bool(self.command) == (self.url is not None):
            raise ValueError("expected command, a list of words, or url")

    @asynccontextmanager
    async def functions(self) -> AsyncIterator[Sequence[ToolFunction]]:
        """Tools of the server, connected.

        Raises:
            RecipeError: the package is missing, or the server has no tool of a name in `only`.
        """
        try:
            from mcp import Client, StdioServerParameters
        except ImportError as error:
            raise RecipeError(f"tool mcp: {error}; expected the package: pip install 'mcp>=2'") from None
        server: Any = self.url or StdioServerParameters(
            command=self.command[0], args=list(self.command[1:]), env=None if self.env is None else dict(self.env)
        )
        async with Client(server, read_timeout_seconds=self.timeout_s) as client:
            listed = (await client.list_tools()).tools
            if missing := set(self.only) - {tool.name for tool in listed}:
                offered = ", ".join(tool.name for tool in listed) or "none"
                raise RecipeError(f"tool mcp: only names {', '.join(sorted(missing))}; the server offers {offered}")
            yield [_function(client, tool) for tool in listed if not self.only or tool.name in self.only]


def _function(client: Any, tool: Any) -> ToolFunction:
    schema = {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}
    return ToolFunction({"type": "function", "function": schema}, partial(_called, client, tool.name))


async def _called(client: Any, name: str, arguments: Mapping[str, Any]) -> str:
    """Text of the result; an error of the tool is text, too."""
    result = await client.call_tool(name, dict(arguments))
    text = "\n".join(part.text for part in result.content if getattr(part, "text", None) is not None)
    return f"error: {text}" if result.is_error else text


plugin = Mcp
