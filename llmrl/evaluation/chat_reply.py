"""Replies of OpenAI's chat completions as answers: what the model wrote, and what is the server's doing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmrl.datafiles.messages import content_text
from llmrl.errors import DataError
from llmrl.types import Finish

if TYPE_CHECKING:
    import httpx

LIMITS = ("length", "max_tokens", "model_length")
"""Finish reasons of a limit of tokens; every reason that is not named here or below is an end by the model."""
BY_SERVER = {
    "content_filter": "its filter ended the answer",
    "tool_calls": "it read a call of a tool out of the answer",
    "function_call": "it read a call of a function out of the answer",
    "abort": "it gave the answer up",
    "error": "it broke",
}
OPENING = "<think>\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """An answer, with the thoughts that the server took out of it; or what kept the model's answer from us."""

    text: str = ""
    opened: str = ""  # of the answer by the chat template: see `Turn.opened`
    finish: Finish = "stop"
    tokens: int | None = None  # None: the reply has no usage
    fault: str = ""  # why there is no answer to judge; "": there is one


def read_reply(reply: httpx.Response) -> ChatReply:
    """Read the first choice of a reply.

    Raises:
        ValueError: it is no chat completion.
    """
    try:
        body = reply.json()
        choice = body["choices"][0]
        return _read(choice["message"], choice.get("finish_reason"), _tokens(body.get("usage")))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, DataError) as error:
        raise ValueError(f"not a chat completion ({error!r}): {reply.text[:300]}") from None


def _read(message: Mapping[str, Any], reason: Any, tokens: int | None) -> ChatReply:
    if message.get("tool_calls"):
        reason = "tool_calls"
    if (fault := BY_SERVER.get(str(reason))) is not None:
        return ChatReply(fault=f"finish_reason {reason} of the server: {fault}", tokens=tokens)
    finish: Finish = "length" if reason in LIMITS else "stop"
    content = message.get("content") if message.get("content") is not None else message.get("refusal")
    told = (message.get("reasoning_content"), message.get("reasoning"))
    thoughts = next((text for text in told if isinstance(text, str) and text), "")
    if content is None and not thoughts and finish == "stop":
        return ChatReply(fault="a message of the server without content", tokens=tokens)
    text = content_text(content)
    if thoughts:
        closed = "" if content is None else f"\n</think>\n\n{text}"
        return ChatReply(text=f"{OPENING}{thoughts}{closed}", finish=finish, tokens=tokens)
    before, closing, _ = text.partition("</think>")
    opened = OPENING if closing and "<think>" not in before else ""  # which then stands in the prompt
    return ChatReply(text=text, opened=opened, finish=finish, tokens=tokens)


def _tokens(usage: Any) -> int | None:
    count = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return count if type(count) is int and count >= 0 else None
