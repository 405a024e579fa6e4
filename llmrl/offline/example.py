"""A stored answer: what every format of rows is read into, before it has tokens."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrl.datafiles import images, json_text
from llmrl.datafiles.messages import message_of
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
    """An example of a conversation whose answer begins at `start`, with the row's `tools` and pictures.

    Raises:
        LeftOutError: the policy wrote nothing.
        DataError: it wrote twice in a row, `tools` are no JSON schemas, or pictures and their places do not fit.
    """
    if not start:
        raise DataError(f"{row.where}: the conversation begins with its answer; expected a prompt before it")
    for before, message in zip(messages[start:], messages[start + 1 :], strict=False):
        if before["role"] == message["role"] == ASSISTANT:
            raise DataError(f"{row.where}: two messages of the assistant in a row; expected an answer between them")
    own = [message for message in messages[start:] if message["role"] == ASSISTANT]
    if not own or not all(message["content"].strip() or message.get("tool_calls") for message in own):
        raise LeftOutError("empty response")
    try:
        messages = images.filled(messages, images.column_of(row.values), row.folder)
    except DataError as error:
        raise DataError(f"{row.where}: {error}; remove the column if nothing is to be seen") from None
    return Example(messages=messages, start=start, tools=tools_of(row), **facts)


def conversation(value: Any, role: str, row: Row) -> list[Message]:
    """A text as a message of `role`, or the messages of a list.

    Raises:
        LeftOutError: an empty text or list.
        DataError: neither text nor messages.
    """
    if isinstance(value, str):
        value = [{"role": role, "content": value}] if value.strip() else []
    if not isinstance(value, list):
        raise DataError(f"{row.where}: found {value!r:.60}; expected text, or a list of messages with role and content")
    if not value:
        raise LeftOutError("empty response" if role == ASSISTANT else "empty prompt")
    return [
        message_of(message, f"{row.where}: message {number}", pictures=True) for number, message in enumerate(value)
    ]


def is_message(value: Any) -> bool:
    """True for an object with a role and a text, or with well-formed tool calls in place of one."""
    try:
        message_of(value, "", pictures=True)
    except DataError:
        return False
    return True


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


def numbers_of(row: Row, *read: str) -> dict[str, float]:
    """Finite numbers in the columns of a row, besides those that the format reads itself."""
    others = {name: finite(value) for name, value in row.values.items() if name not in read}
    return {name: value for name, value in others.items() if value is not None}


def finite(value: Any) -> float | None:
    """A number that is finite as float; None for anything else, truth values among it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


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
        number = float(value) if isinstance(value, bool) else finite(value)
        if number is None:
            raise LeftOutError("reward is not finite")
        return number
    return None


def judged(value: float, correct: bool | None = None) -> Score:
    """A score, with a verdict where somebody judged right and wrong."""
    return Score(value, None if correct is None else "correct" if correct else "wrong")
