"""Messages as OpenAI's clients send them: in the form of chat templates, and with fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.datafiles.messages import content_text
from llmrl.errors import DataError
from llmrl.types import Message

ROLES = {"developer": "system", "function": "tool"}  # older and newer names of one thing


def messages_of(given: Any) -> list[Message]:
    """Messages of a request as chat templates take them: content as text, arguments of tool calls as objects.

    Raises:
        DataError: no messages, or some that are no text.
    """
    if not isinstance(given, list) or not given or not all(isinstance(message, Mapping) for message in given):
        raise DataError("messages: expected a list of objects with role and content, at least one")
    return [_message(message) for message in given]


def chain(tools: Sequence[Mapping[str, Any]], messages: Sequence[Message]) -> list[bytes]:
    """Fingerprints of the conversation's beginnings: entry n is of the tools and the first n messages.

    Spaces around an assistant's text, reasoning beside it, and the order of keys in arguments do not count.
    """
    keys = [_digest(b"", [dict(tool) for tool in tools])]
    for message in messages:
        keys.append(_digest(keys[-1], _canonical(message)))
    return keys


def _message(given: Mapping[str, Any]) -> Message:
    role = given.get("role")
    if not isinstance(role, str):
        raise DataError(f"messages: role {role!r}; expected system, user, assistant or tool")
    message: dict[str, Any] = {"role": ROLES.get(role, role), "content": _text(given.get("content"))}
    for key in ("name", "tool_call_id"):
        if given.get(key) is not None:
            message[key] = given[key]
    if given.get("tool_calls"):
        message["tool_calls"] = [_call(call) for call in given["tool_calls"]]
    return message


def _text(content: Any) -> str:
    try:
        return content_text(content)
    except DataError as error:
        raise DataError(f"messages: {error}; the gateway serves text alone") from None


def _call(call: Any) -> dict[str, Any]:
    try:
        function = call["function"]
        name, arguments = function["name"], function.get("arguments") or "{}"
        loaded = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"messages: tool_calls: {error}; expected function.name and arguments in JSON") from None
    return {"id": str(call.get("id", "")), "type": "function", "function": {"name": name, "arguments": loaded}}


def _canonical(message: Message) -> Any:
    content = message["content"].strip() if message["role"] == "assistant" else message["content"]
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return [message["role"], content, calls, message.get("tool_call_id"), message.get("name")]


def _digest(before: bytes, value: Any) -> bytes:
    return hashlib.blake2b(before + json.dumps(value, sort_keys=True).encode(), digest_size=16).digest()
