"""Requests of OpenAI's clients, read and bounded; what would sample from another policy is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrl.errors import RecipeError
from llmrl.gateway.conversation import messages_of
from llmrl.gateway.session import Dialect
from llmrl.types import Message

ALLOWED: Mapping[str, tuple[Any, ...]] = {  # values of options that other ones would make another policy of
    "n": (1,),
    "best_of": (1,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto", "none"),
    "top_logprobs": (0,),
    "functions": (),
    "function_call": (),
    "echo": (False,),
    "suffix": ("",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request. Temperature, top_p and seeds are not read: training samples as its recipe says."""

    messages: Sequence[Message] = ()
    prompt: str | Sequence[int] = ""  # of a completion
    tools: Sequence[Mapping[str, Any]] = ()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    usage: bool = False  # a stream ends with it
    logprobs: bool = False
    model: str = "policy"
    dialect: Dialect = "chat"


def chat_request(body: Any) -> Wanted:
    """Read the body of a chat completion.

    Raises:
        LlmrlError: it is none, or asks for what the gateway refuses.
    """
    body = checked(body)
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) and "function" in tool for tool in tools):
        raise RecipeError("tools: expected a list of objects with type and function")
    offered = () if body.get("tool_choice") == "none" else tools
    return wanted_of(body, messages=messages_of(body.get("messages")), tools=offered)


def completion_request(body: Any) -> Wanted:
    """Read the body of a completion: one prompt, as text or as token ids.

    Raises:
        LlmrlError: it is none, or asks for what the gateway refuses.
    """
    body = checked(body)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        (prompt,) = prompt
    ids = isinstance(prompt, list) and bool(prompt) and all(type(token) is int and token >= 0 for token in prompt)
    if not ids and not (isinstance(prompt, str) and prompt):
        raise RecipeError("prompt: expected a text, or a list of token ids; one prompt a request")
    return wanted_of(body, prompt=prompt, dialect="completions")


def checked(body: Any, options: Mapping[str, tuple[Any, ...]] = ALLOWED) -> Mapping[str, Any]:
    """The body, once none of its options asks for another policy or for what the gateway does not have.

    Raises:
        RecipeError: one does, or it is no object.
    """
    if not isinstance(body, Mapping):
        raise RecipeError(f"expected a JSON object, found {type(body).__name__}")
    for option, allowed in options.items():
        given = body.get(option)
        if given is not None and given not in allowed:
            also = "".join(f", or {value!r}" for value in allowed)
            raise RecipeError(
                f"{option} {given!r}: the gateway samples one completion from the policy as it is, which training "
                f"needs; expected the option left out{also}"
            )
    return body


def wanted_of(body: Mapping[str, Any], **facts: Any) -> Wanted:
    """The request of a body whose messages, prompt and tools are read.

    Raises:
        RecipeError: a limit or a stop string is none.
    """
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most is not None and (type(most) is not int or most < 1):
        raise RecipeError(f"max_tokens {most!r}: expected a whole number of at least 1")
    stop = body.get("stop") or ()
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(string, str) and string for string in strings):
        raise RecipeError(f"stop {stop!r}: expected a text or a list of texts")
    return Wanted(
        max_tokens=most,
        stop=strings,
        stream=bool(body.get("stream")),
        usage=bool((body.get("stream_options") or {}).get("include_usage")),
        logprobs=bool(body.get("logprobs")),
        model=str(body.get("model") or "policy"),
        **facts,
    )
