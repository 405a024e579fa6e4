"""Functions that a policy may call: their schemas, and their results as text."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from llmrl.errors import LlmrlError, RecipeError
from llmrl.plugins import find
from llmrl.tool_calls.forms import ToolCall
from llmrl.types import Message

LAST_LINES = 4  # of a traceback that the policy reads


@dataclass(frozen=True, slots=True)
class ToolFunction:
    """A function with its schema, as OpenAI writes it: `{"type": "function", "function": {"name": ..., ...}}`."""

    schema: Mapping[str, Any]
    call: Callable[[Mapping[str, Any]], Awaitable[Any]]

    @property
    def name(self) -> str:
        """Name by which it is called."""
        name: str = self.schema["function"]["name"]
        return name


@runtime_checkable
class Tool(Protocol):
    """The plug-in behind functions that a policy may call."""

    def functions(self) -> AbstractAsyncContextManager[Sequence[ToolFunction]]:
        """Functions that can be called within the block: for one episode."""
        ...


def of_python(function: Callable[..., Any], where: str = "tools") -> ToolFunction:
    """Make a tool of a function with type hints and a docstring with `Args:`, as TRL's and Transformers' users write.

    Raises:
        RecipeError: a hint or the description of an argument is missing.
    """
    from transformers.utils import get_json_schema

    try:
        schema = get_json_schema(function)
    except Exception as error:  # classes of its own, without a common parent
        name = getattr(function, "__qualname__", repr(function))
        raise RecipeError(
            f"{where}: {name} cannot be a tool: {error}; expected a type hint of each argument, and a docstring that "
            "describes the function and, under `Args:`, each argument"
        ) from None
    schema["function"].pop("return", None)

    async def call(arguments: Mapping[str, Any]) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(**arguments)
        return await asyncio.to_thread(function, **arguments)

    return ToolFunction(schema, call)


def named(path: str, where: str = "tools") -> ToolFunction:
    """The tool of a Python function named as `package.module:function`.

    Raises:
        RecipeError: there is none, or it cannot be a tool.
    """
    return of_python(find("tool", path, where), where)


async def answered(
    calls: Sequence[ToolCall], functions: Mapping[str, ToolFunction], *, max_calls: int, max_characters: int
) -> list[Message]:
    """Call functions at once; answers in the order of the calls, each at most so long, as messages of tools.

    Args:
        calls: of a turn; those beyond `max_calls` are refused.
    """
    results = await asyncio.gather(*(_result(call, functions) for call in calls[:max_calls]))
    refused = [f"error: at most {max_calls} calls a turn; this one was not made"] * len(calls[max_calls:])
    return [
        {"role": "tool", "name": call.name, "content": shortened(text, max_characters)}
        for call, text in zip(calls, [*results, *refused], strict=True)
    ]


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters; where it was cut, it says so."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[cut: the first {most} of {len(text)} characters]"


async def _result(call: ToolCall, functions: Mapping[str, ToolFunction]) -> str:
    """Text of a result; a call that cannot be made, and a function that raises, are results, too."""
    function = functions.get(call.name)
    if function is None:
        return f"error: no tool {call.name!r}; expected one of {', '.join(functions)}"
    if complaint := _complaint(function, call.arguments):
        return f"error: {call.name}: {complaint}"
    try:
        value = await function.call(call.arguments)
    except LlmrlError:  # no fault of the call: a sandbox that does not work here, say
        raise
    except Exception as error:  # other people's code; the policy reads about it
        lines = traceback.format_exception_only(error)
        return "error: " + "".join(lines[-LAST_LINES:]).strip()
    return value if isinstance(value, str) else repr(value)


def _complaint(function: ToolFunction, arguments: Mapping[str, Any]) -> str:
    """Tell where arguments break the function's schema; empty where they fit."""
    import jsonschema

    parameters = dict(function.schema["function"].get("parameters") or {})
    known = parameters.get("properties", {})
    unknown = [name for name in arguments if name not in known]
    if unknown and not parameters.get("additionalProperties"):
        return f"no argument {unknown[0]!r}; expected {', '.join(known) or 'none'}"
    error = next(iter(jsonschema.Draft202012Validator(parameters).iter_errors(dict(arguments))), None)
    if error is None:
        return ""
    place = "".join(f"{part}: " for part in error.path)
    return f"{place}{error.message}"
