"""Messages of conversations, as data and requests have them, in the form that chat templates take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.datafiles import json_text
from llmrl.datafiles.images import MARK, image_of, parted
from llmrl.errors import DataError
from llmrl.types import Message


def message_of(value: Any, where: str, *, pictures: bool = False) -> Message:
    """A message with a role and a text; arguments of tool calls, which templates write, as objects.

    Content in parts is joined, where there may be `pictures` with a mark for each (`llmrl.datafiles.images`), and may
    be missing beside tool calls. Keys that are null are left out: Parquet fills up with them what other messages have.

    Raises:
        DataError: no such object; the message begins with `where`.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("role"), str):
        raise DataError(f"{where}: expected an object with role and content, found {value!r:.60}")
    given = {key: entry for key, entry in value.items() if entry is not None}
    calls = given.get("tool_calls")
    if "content" not in given and not calls:
        raise DataError(f"{where}: content is NoneType; expected text")
    try:
        given |= _pictured(given) if pictures else {"content": _pictureless(given)}
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if not calls:
        return given
    functions = [_function(call) for call in calls] if isinstance(calls, list) else [None]
    if None in functions:
        raise DataError(f"{where}: tool_calls {calls!r:.60}; expected a list of functions with a name and arguments")
    called = zip(calls, functions, strict=True)
    return given | {"tool_calls": [{**call, "type": "function", "function": function} for call, function in called]}


def _pictured(given: Message) -> dict[str, Any]:
    """The content of a message as text with marks, and its pictures."""
    content, images = given.get("content"), list(given.get("images") or ())
    if isinstance(content, list):
        content, found = parted(content)
        if images and any(found):
            raise DataError(f"{len(images)} images beside parts that have their own; expected one or the other")
        images = images or found
    text = content_text(content)
    if images and MARK not in text:  # beside the text, before which they then stand
        text = MARK * len(images) + text
    return {
        "content": text,
        **({"images": [None if one is None else image_of(one) for one in images]} if images else {}),
    }


def _pictureless(given: Message) -> str:
    """The text of a message that must have no pictures."""
    if given.get("images"):
        raise DataError(f"{len(given['images'])} images, which are not read here; expected a message of text alone")
    return content_text(given.get("content"))


def content_text(content: Any) -> str:
    """Content as text: parts (`{"type": "text", "text": ...}`) are joined, and none at all is empty.

    Raises:
        DataError: it is neither, or a part is no text, such as a picture.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list | Mapping):
        raise DataError(f"content is {type(content).__name__}; expected text")
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        if not isinstance(part, str) and not _is_text(part):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise DataError(f"content with a part of {kind!r}; expected text, or parts of type text")
    return "".join(part if isinstance(part, str) else part["text"] for part in parts)


def with_texts(conversation: Sequence[Message]) -> Sequence[Message]:
    """The conversation as it is; refuses content that is not text, which a template would drop or print as Python.

    Raises:
        DataError: names the first.
    """
    for number, message in enumerate(conversation):
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise DataError(
                f"message {number} ({message.get('role')}): content is {type(content).__name__}; expected text: "
                "llmrl.datafiles.messages.message_of makes one of parts"
            )
    return conversation


def _is_text(part: Any) -> bool:
    """True for a part of type text, `input_text` or none; a picture may have a text beside it, and is none."""
    return (
        isinstance(part, Mapping)
        and isinstance(part.get("text"), str)
        and str(part.get("type") or "text").endswith("text")
    )


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
    return {**function, "arguments": arguments} if isinstance(arguments, Mapping) else None
