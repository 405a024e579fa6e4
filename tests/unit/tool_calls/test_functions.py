"""Python functions as tools: schemas, calls, and results that the policy can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llmrl.errors import RecipeError, SandboxError
from llmrl.tool_calls.episode import OpenTools
from llmrl.tool_calls.forms import ToolCall
from llmrl.tool_calls.functions import ToolFunction, answered, named, of_python


def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


async def long(size: int) -> str:
    """Write a long text.

    Args:
        size: In characters.
    """
    return "x" * size


def breaks() -> str:
    """Break."""
    raise KeyError("lost")


def refuses() -> str:
    """Refuse."""
    raise SandboxError("no level works here")


def undocumented(a: int) -> int:
    return a


FUNCTIONS = {function.name: function for function in (of_python(add), of_python(long), of_python(breaks))}


def results(*calls: ToolCall, **limits: Any) -> list[str]:
    settings = {"max_calls": 8, "max_characters": 100} | limits
    messages = asyncio.run(answered(calls, FUNCTIONS, **settings))
    assert [message["name"] for message in messages] == [call.name for call in calls]
    return [str(message["content"]) for message in messages]


def test_a_schema_is_made_of_hints_and_docstring() -> None:
    assert FUNCTIONS["add"].schema == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "integer", "description": "The first."},
                    "b": {"type": "integer", "description": "The second."},
                },
                "required": ["a"],
            },
        },
    }


def test_results_come_in_the_order_of_the_calls() -> None:
    assert results(ToolCall("add", {"a": 1}), ToolCall("long", {"size": 3}), ToolCall("add", {"a": 1, "b": 5})) == [
        "3",
        "xxx",
        "6",
    ]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (ToolCall("nothing", {}), "error: no tool 'nothing'; expected one of add, long, breaks"),
        (ToolCall("add", {}), "error: add: 'a' is a required property"),
        (ToolCall("add", {"a": "one"}), "error: add: a: 'one' is not of type 'integer'"),
        (ToolCall("add", {"a": 1, "c": 1}), "error: add: no argument 'c'; expected a, b"),
        (ToolCall("breaks", {}), "error: KeyError: 'lost'"),
    ],
)
def test_the_policy_reads_what_was_wrong(call: ToolCall, words: str) -> None:
    assert results(call) == [words]


def test_results_are_bounded_and_say_so() -> None:
    (cut,) = results(ToolCall("long", {"size": 30}), max_characters=10)
    assert cut == "x" * 10 + "\n[cut: the first 10 of 30 characters]"
    first, second = results(ToolCall("add", {"a": 1}), ToolCall("add", {"a": 2}), max_calls=1)
    assert (first, second) == ("3", "error: at most 1 calls a turn; this one was not made")


def test_what_cannot_be_a_tool_is_refused() -> None:
    with pytest.raises(RecipeError, match="undocumented cannot be a tool"):
        of_python(undocumented)
    with pytest.raises(RecipeError, match="cannot be imported"):
        named("no.module:f")


def test_what_llmrl_refuses_is_no_answer() -> None:
    """A sandbox that does not work here ends the run; the policy would read it as its own fault."""
    with pytest.raises(SandboxError, match="no level works here"):
        asyncio.run(answered([ToolCall("refuses", {})], {"refuses": of_python(refuses)}, max_calls=1, max_characters=9))


def test_two_tools_of_one_name_are_refused() -> None:
    class Offers:
        @asynccontextmanager
        async def functions(self) -> AsyncIterator[list[ToolFunction]]:
            yield [of_python(add)]

    with pytest.raises(RecipeError, match="two tools are called 'add'"):
        asyncio.run(OpenTools(tools=[Offers(), Offers()]).open())
