"""Stored conversations with tool calls: the policy's tokens are those that the chat template writes, and no others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.datafiles.rows import Row
from llmrl.errors import CheckpointError, DataError
from llmrl.offline.encode import AnswerEncoder
from llmrl.offline.formats import format_of, reader
from llmrl.recipe import RolloutOptions
from llmrl.samples import Sample
from llmrl.tiny import make_tokenizer

TEMPLATE = (
    "{%- if tools -%}{{- '<|system|>' + (tools | tojson) + '<|end|>' -}}{%- endif -%}"
    "{%- for message in messages -%}{{- '<|' + message.role + '|>' + message.content -}}"
    "{%- for call in message.tool_calls or [] -%}"
    "{{- '[' + call.function.name + (call.function.arguments | tojson) + ']' -}}"
    "{%- endfor -%}{{- '<|end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
LIMITS = RolloutOptions(max_completion_length=64, max_prompt_length=160)


def encoder(template: str | None = TEMPLATE) -> AnswerEncoder:
    tokenizer = make_tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    return AnswerEncoder(Chat(tokenizer), LIMITS)


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def row(*messages: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "2+2?"}, *messages], "reward": 1.0, **columns}


def samples(values: dict[str, Any], made: AnswerEncoder) -> list[Sample]:
    stored = Row(values, "rows.jsonl:1", 0)
    return made.samples(reader(format_of(stored))(stored), "0/0")


CONVERSATION = (
    call("add", {"a": 2, "b": 2}),
    {"role": "tool", "content": "4"},
    {"role": "assistant", "content": "It is 4"},
)


@pytest.mark.parametrize("arguments", [{"a": 2, "b": 2}, '{"a": 2, "b": 2}'])
def test_calls_and_answers_are_actions_and_results_are_not(arguments: Any) -> None:
    made = encoder()
    (sample,) = samples(row(call("add", arguments), *CONVERSATION[1:], tools=TOOLS), made)
    decode = made.chat.tokenizer.decode
    spans = [decode(sample.token_ids[sample.turn_ids == turn].tolist()) for turn in (0, 1)]
    assert spans == ['[add{"a": 2, "b": 2}]<|end|>', "It is 4<|end|>"]
    whole = decode(sample.token_ids.tolist())
    fed = [{"role": "user", "content": "2+2?"}, call("add", {"a": 2, "b": 2}) | {"content": ""}, *CONVERSATION[1:]]
    assert whole == made.chat._rendered([fed], TOOLS, add_generation_prompt=False)[0]
    assert json.dumps(TOOLS[0]["function"]["parameters"]) in whole  # type: ignore[index]


def test_tools_may_be_a_text_and_may_lack() -> None:
    listed, text, none = (
        samples(row(*CONVERSATION, **more), encoder()) for more in ({"tools": TOOLS}, {"tools": json.dumps(TOOLS)}, {})
    )
    assert listed == text
    assert len(none[0].token_ids) < len(listed[0].token_ids)


@pytest.mark.parametrize(
    ("answer", "template", "message"),
    [
        (call("add", {"a": "<|end|>"}), TEMPLATE, r"a tool call spells the special token '<\|end\|>'"),
        (call("add", {}), None, r"the chat template writes no tool calls \(of 'add'\)"),
        (call("add", {}), "<b>" + TEMPLATE.replace("'<|assistant|>'", "'<|assistant|>>'"), r"behind its own prompt"),
    ],
)
def test_calls_whose_tokens_are_unknown_are_refused(answer: dict[str, Any], template: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        samples(row(answer), encoder(template))


def test_a_call_needs_a_template() -> None:
    made = encoder()
    made.chat.tokenizer.chat_template = None
    with pytest.raises(CheckpointError, match="no chat template, which tool calls need"):
        made.chat.written_ids([{"role": "user", "content": "q"}, call("add", {})])
