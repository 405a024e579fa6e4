"""A stored answer: what every format of rows is read into, before it has tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrl.datafiles import json_text
from llmrl.datafiles.rows import LeftOutError, Row
from llmrl.errors import DataError
from llmrl.types import Message, Role, Score

ASSISTANT = "assistant"
DEMONSTRATION = Score(1.0)
"""Score of an answer that was stored without one: it is there to be imitated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A conversation, in which the policy's first message is `messages[start]`.

    Every message of the assistant from there on is an action; the messages between them are the environment's.
    """

    messages: Sequence[Message]
    start: int
    tools: Sequence[Mapping[str, Any]] = ()  # JSON schemas, for the chat template
    prefix: str = ""  # how that message begins: given, and not learned from
    ends: bool = True  # False: its last message is a step behind which the answer goes on, so no token ends it
    sampled: tuple[Sequence[int], Sequence[int]] | None = None  # tokens before the step and of it, if stored
    score: Score = DEMONSTRATION
    role: Role | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)  # stored beside it: margin, discount ...


def answered(prompt: Any, answer: Any, row: Row, **facts: Any) -> Example:
    """An example of a prompt and its answer, each a text or a list of messages.

    Raises:
        LeftOutError: the answer is empty.
        DataError: the prompt or the answer is neither text nor messages.
    """
    asked, said = conversation(prompt, "user", row), conversation(answer, ASSISTANT, row)
    if said[0]["role"] != ASSISTANT:
        raise DataError(f"{row.where}: the answer begins with a message of {said[0]['role']!r}; expected {ASSISTANT!r}")
    return dialogue([*asked, *said], len(asked), row, **facts)


def dialogue(messages: Sequence[Message], start: int, row: Row, **facts: Any) -> Example:
    """An example of a conversation whose answer begins at `start`, with the row's `tools`.

    Raises:
        LeftOutError: the policy wrote nothing.
        DataError: it wrote twice in a row, or `tools` are no JSON schemas.
    """
    if not start:
        raise DataError(f"{row.where}: the conversation begins with its answer; expected a prompt before it")
    for before, message in zip(messages[start:], messages[start + 1 :], strict=False):
        if before["role"] == message["role"] == ASSISTANT:
            raise DataError(f"{row.where}: two messages of the assistant in a row; expected an answer between them")
    own = [message for message in messages[start:] if message["role"] == ASSISTANT]
    if not own or not all(message["content"].strip() or message.get("tool_calls") for message in own):
        raise LeftOutError("empty response")
    return Example(messages=messages, start=start, tools=tools_of(row), **facts)


def conversation(value: Any, role: str, row: Row) -> list[Message]:
    """A text as a message of `role`, or the messages of a list.

    Raises:
        LeftOutError: an empty text or list.
        DataError: neither text nor messages.
    """
    if isinstance(value, str):
        value = [{"role": role, "content": value}] if value.strip() else []
    if not isinstance(value, list) or not all(map(is_message, value)):
        raise DataError(
            f"{row.where}: found {value!r:.60}; expected text, or a list of messages with role and content, or with "
            "tool_calls of functions with a name and arguments"
        )
    if not value:
        raise LeftOutError("empty response" if role == ASSISTANT else "empty prompt")
    return [_plain(message) for message in value]


def is_message(value: Any) -> bool:
    """True for an object with a role and a text, or with well-formed tool calls in place of one."""
    if not isinstance(value, Mapping) or not isinstance(value.get("role"), str):
        return False
    calls = value.get("tool_calls")
    if not calls:
        return isinstance(value.get("content"), str)
    named = isinstance(calls, list) and all(_function(call) is not None for call in calls)
    return named and isinstance(value.get("content") or "", str)


def tools_of(row: Row) -> Sequence[Mapping[str, Any]]:
    """The row's column `tools`, a list of JSON schemas, or its text; none where it has none.

    Raises:
        DataError: something else.
    """
    tools = row.values.get("tools")
    if isinstance(tools, str):
        tools = json_text.parse(tools, f"{row.where}: column 'tools'")
    if tools is None:
        return ()
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"{row.where}: column 'tools' holds {tools!r:.60}; expected a list of JSON schemas")
    return tools


def _plain(message: Message) -> Message:
    """The message with a text, and with the arguments of its tool calls as objects, which templates write."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    plain = []
    for call in calls:
        function = _function(call)
        assert function is not None  # `is_message` has looked
        given = function["arguments"]
        arguments = json_text.parse(given, "arguments") if isinstance(given, str) else given
        plain.append({**call, "type": "function", "function": {**function, "arguments": arguments}})
    return {**message, "content": message.get("content") or "", "tool_calls": plain}


def _function(call: Any) -> Mapping[str, Any] | None:
    """The function of a tool call; None where it has no name, or arguments that are no object."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json_text.parse(arguments, "arguments")
        except DataError:
            return None
    return function if isinstance(arguments, Mapping) else None


def numbers_of(row: Row, *read: str) -> dict[str, float]:
    """Finite numbers in the columns of a row, besides those that the format reads itself."""
    return {
        name: float(value)
        for name, value in row.values.items()
        if name not in read and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def reward_of(row: Row, *columns: str) -> float | None:
    """The number in the first of the columns that the row has; None where it has none of them.

    Raises:
        LeftOutError: it is not finite.
        DataError: it is no number.
    """
    for column in columns:
        value = row.values.get(column)
        if value is None:
            continue
        if not isinstance(value, int | float):
            raise DataError(f"{row.where}: column {column!r} holds {value!r:.60}; expected a number")
        if not math.isfinite(value):
            raise LeftOutError("reward is not finite")
        return float(value)
    return None


def judged(value: float, correct: bool | None = None) -> Score:
    """A score, with a verdict where somebody judged right and wrong."""
    return Score(value, None if correct is None else "correct" if correct else "wrong")
