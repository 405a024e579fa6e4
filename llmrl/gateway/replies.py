"""Answers in the form of OpenAI's API, whole or as a stream of one piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from llmrl.gateway.requests import Wanted
from llmrl.gateway.session import Call
from llmrl.tool_calls.forms import Parsed
from llmrl.types import Completion

Decode = Callable[[int], str]


def chat_reply(call: Call, parsed: Parsed, wanted: Wanted, decode: Decode) -> dict[str, Any]:
    """A chat completion."""
    message = parsed.message(call_ids(call, parsed))
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(call, parsed), "logprobs": None}
    if wanted.logprobs:
        choice["logprobs"] = {"content": logprob_entries(completion_of(call), decode)}
    return _envelope(call, wanted, "chat.completion", choice)


def completion_reply(call: Call, parsed: Parsed, wanted: Wanted, decode: Decode) -> dict[str, Any]:
    """A completion of a text."""
    choice = {"index": 0, "text": parsed.content, "finish_reason": finish_reason(call, parsed), "logprobs": None}
    if wanted.logprobs:
        entries = logprob_entries(completion_of(call), decode)
        choice["logprobs"] = {
            "tokens": [entry["token"] for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
        }
    return _envelope(call, wanted, "text_completion", choice)


def streamed(reply: dict[str, Any], wanted: Wanted) -> Iterator[str]:
    """Server-sent events of an answer: the engine gives it in one piece, so there is one."""
    (choice,) = reply["choices"]
    usage, kind = reply["usage"], reply["object"]
    head = {key: reply[key] for key in ("id", "created", "model")}
    if kind == "chat.completion":
        message = dict(choice["message"])
        if message.get("tool_calls"):
            message["tool_calls"] = [{"index": i} | tool for i, tool in enumerate(message["tool_calls"])]
        head["object"] = "chat.completion.chunk"
        pieces: list[dict[str, Any]] = [
            {"index": 0, "delta": message, "finish_reason": None, "logprobs": choice["logprobs"]},
            {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]},
        ]
    else:
        head["object"] = kind
        pieces = [choice]
    for piece in pieces:
        yield _event(head | {"choices": [piece]})
    if wanted.usage:
        yield _event(head | {"choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def call_ids(call: Call, parsed: Parsed) -> list[str]:
    """Names of the tool calls of an answer: nine letters and digits, which Mistral's templates demand."""
    return [f"c{call.seq:05d}{number:03d}" for number in range(len(parsed.calls))]


def finish_reason(call: Call, parsed: Parsed) -> str:
    """OpenAI's word for the end of a completion."""
    if parsed.calls:
        return "tool_calls"
    return "length" if completion_of(call).finish == "length" else "stop"


def completion_of(call: Call) -> Completion:
    """The completion of an answered call."""
    assert call.completion is not None, "an answer is written for a call that was answered"
    return call.completion


def _envelope(call: Call, wanted: Wanted, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    prompt, sampled = len(call.prompt_ids), len(completion_of(call).token_ids)
    usage = {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled}
    head = {"id": call.id, "object": kind, "created": int(call.created), "model": wanted.model}
    return head | {"choices": [choice], "usage": usage}


def logprob_entries(completion: Completion, decode: Decode) -> list[dict[str, Any]]:
    """Tokens and log-probabilities of a completion, as OpenAI lists them."""
    pairs = zip(completion.token_ids, completion.logprobs, strict=True)
    return [{"token": decode(token), "logprob": logprob, "bytes": None, "top_logprobs": []} for token, logprob in pairs]


def _event(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"
