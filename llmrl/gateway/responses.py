"""OpenAI's responses API over the same calls: its items as messages, answers as items, and its stream of events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmrl.errors import DataError, RecipeError
from llmrl.gateway.conversation import messages_of
from llmrl.gateway.replies import Decode, call_ids, completion_of, logprob_entries
from llmrl.gateway.requests import Wanted, checked, wanted_of
from llmrl.gateway.session import Call
from llmrl.tool_calls.forms import Parsed

ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "previous_response_id": (),  # the gateway keeps records, not conversations
    "conversation": (),
    "background": (False,),
    "prompt": (),
    "text": ({}, {"format": {"type": "text"}}),
    "tool_choice": ("auto", "none"),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
LOGPROBS = "message.output_text.logprobs"


def responses_request(body: Any) -> Wanted:
    """Read the body of a response: the whole conversation as `input`, `instructions` before it.

    Raises:
        LlmrlError: it is none, or asks for what the gateway refuses.
    """
    body = checked(body, ALLOWED)
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items or not all(isinstance(item, Mapping) for item in items):
        raise DataError("input: expected a text, or a list of items, at least one")
    instructions = body.get("instructions")
    before = [{"role": "system", "content": instructions}] if instructions else []
    tools = [_tool(tool) for tool in body.get("tools") or ()]
    include = body.get("include") or ()
    return wanted_of(
        {**body, "max_tokens": body.get("max_output_tokens"), "stop": None, "logprobs": LOGPROBS in include},
        messages=messages_of([*before, *_messages(items)]),
        tools=() if body.get("tool_choice") == "none" else tools,
        dialect="responses",
    )


def responses_reply(call: Call, parsed: Parsed, wanted: Wanted, decode: Decode) -> dict[str, Any]:
    """A response: a message where there is text, and its function calls."""
    completion, sampled = completion_of(call), len(completion_of(call).token_ids)
    cut = completion.finish == "length"
    status = "incomplete" if cut else "completed"
    output: list[dict[str, Any]] = []
    if parsed.content or not parsed.calls:
        logprobs = logprob_entries(completion, decode) if wanted.logprobs else []
        part = {"type": "output_text", "text": parsed.content, "annotations": [], "logprobs": logprobs}
        message = {"type": "message", "id": f"msg_{call.id}", "role": "assistant", "status": status, "content": [part]}
        output.append(message)
    for name, made in zip(call_ids(call, parsed), parsed.calls, strict=True):
        facts = {"call_id": name, "name": made.name, "arguments": json.dumps(made.arguments), "status": "completed"}
        output.append({"type": "function_call", "id": f"fc_{name}", **facts})
    return {
        "id": call.id,
        "object": "response",
        "created_at": int(call.created),
        "model": wanted.model,
        "status": status,
        "output": output,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": len(call.prompt_ids),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": sampled,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": len(call.prompt_ids) + sampled,
        },
    }


def responses_streamed(reply: dict[str, Any], wanted: Wanted) -> Iterator[str]:
    """Server-sent events of a response: each item in one piece."""
    begun = {**reply, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(reply["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        message = item["type"] == "message"
        empty: dict[str, Any] = {"content": []} if message else {"arguments": ""}
        opened = {**item, **empty, "status": "in_progress"}
        events.append({"type": "response.output_item.added", "output_index": index, "item": opened})
        events += _text_events(item["content"][0], place) if message else _call_events(item, place)
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{reply['status']}", "response": reply})
    for number, event in enumerate(events):
        yield f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"


def _text_events(part: Mapping[str, Any], place: Mapping[str, Any]) -> list[dict[str, Any]]:
    where = {**place, "content_index": 0}
    text = {"logprobs": part["logprobs"], **where}
    return [
        {"type": "response.content_part.added", "part": {**part, "text": "", "logprobs": []}, **where},
        {"type": "response.output_text.delta", "delta": part["text"], **text},
        {"type": "response.output_text.done", "text": part["text"], **text},
        {"type": "response.content_part.done", "part": part, **where},
    ]


def _call_events(item: Mapping[str, Any], place: Mapping[str, Any]) -> list[dict[str, Any]]:
    kind = "response.function_call_arguments"
    return [
        {"type": f"{kind}.delta", "delta": item["arguments"], **place},
        {"type": f"{kind}.done", "arguments": item["arguments"], "name": item["name"], **place},
    ]


def _messages(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Items as messages of a chat: an assistant's text and the calls behind it are one. Reasoning is left out."""
    messages: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({"role": item.get("role"), "content": item.get("content")})
        elif kind == "function_call":
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": "", "tool_calls": []})
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            messages[-1].setdefault("tool_calls", []).append({"id": item.get("call_id"), "function": function})
        elif kind == "function_call_output":
            output = item.get("output")
            messages.append({"role": "tool", "content": output, "tool_call_id": item.get("call_id")})
        elif kind != "reasoning":
            raise RecipeError(
                f"input: an item of type {kind!r}; the gateway reads messages, function calls and their outputs"
            )
    return messages


def _tool(tool: Any) -> dict[str, Any]:
    """A function of the request as chat templates take it."""
    if not isinstance(tool, Mapping) or tool.get("type") != "function" or not isinstance(tool.get("name"), str):
        raise RecipeError(f"tools: {tool!r:.80}; expected objects of type function with a name: others run elsewhere")
    kept = {key: tool[key] for key in ("name", "description", "parameters") if tool.get(key) is not None}
    return {"type": "function", "function": kept}
