"""Tool calls as model families write them, and reasons for those that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.tiny import make_tokenizer
from llmrl.tool_calls.completions import parsed
from llmrl.tool_calls.forms import Form, ToolCall, form_of, read_calls

ADD, SUB = ToolCall("add", {"a": 1}), ToolCall("sub", {})
ADDS, SUBS = '{"name": "add", "arguments": {"a": 1}}', '{"name": "sub", "arguments": {}}'
READ: list[tuple[Form, str, str, list[ToolCall]]] = [
    ("hermes", f"<tool_call>{ADDS}</tool_call>", "", [ADD]),
    ("hermes", f"So.\n<tool_call>\n{ADDS}\n</tool_call>\n<tool_call>{SUBS}</tool_call>", "So.\n", [ADD, SUB]),
    ("hermes", f"<tool_call>{ADDS}", "", [ADD]),
    ("hermes", "plain {text}", "plain {text}", []),
    ("llama3_json", '{"name": "add", "parameters": {"a": 1}}', "", [ADD]),
    (
        "llama3_json",
        '<|python_tag|>{"name": "add", "parameters": {"a": 1}}; {"name": "sub", "arguments": {}}',
        "",
        [ADD, SUB],
    ),
    ("llama3_json", 'The set {1, 2} is {"no": "call"}', 'The set {1, 2} is {"no": "call"}', []),
    ("mistral", f"[TOOL_CALLS] [{ADDS}, {SUBS}]", "", [ADD, SUB]),
    ("mistral", 'Well.[TOOL_CALLS]add{"a": 1}[TOOL_CALLS]sub[ARGS]{}', "Well.", [ADD, SUB]),
    ("mistral", "no call", "no call", []),
]
MALFORMED: list[tuple[Form, str, str]] = [
    ("hermes", '<tool_call>{"name": "add", }</tool_call>', "the call is not JSON"),
    ("hermes", "<tool_call>" + "[" * 100_000 + "</tool_call>", "the call is not JSON"),
    ("llama3_json", '{"name": ' + "[" * 100_000, "the call is not JSON"),
    ("mistral", "[TOOL_CALLS] " + "[" * 100_000, "the call is not JSON"),
    ("hermes", '<tool_call>{"arguments": {}}</tool_call>', "the call has no name"),
    ("hermes", '<tool_call>{"name": "add", "arguments": 3}</tool_call>', "the call of add has no object of arguments"),
    ("llama3_json", '{"name": "add"', "the call is not JSON"),
    ("llama3_json", "<|python_tag|>print(1)", "nothing follows"),
    ("llama3_json", '{"name": "add"}', "the call of add has no object of parameters"),
    ("mistral", "[TOOL_CALLS] [{]", "the call is not JSON"),
    ("mistral", "[TOOL_CALLS] so", "no name and arguments"),
]


@pytest.mark.parametrize(("form", "text", "content", "calls"), READ)
def test_calls_are_read(form: Form, text: str, content: str, calls: list[ToolCall]) -> None:
    read = read_calls(text, form)
    assert (read.content, list(read.calls), read.error) == (content, calls, "")


@pytest.mark.timeout(60)  # a second or less, or hours where time grows with the square
@pytest.mark.parametrize("fragment", ["{", "\\boxed{5}, ", '{"', '{"a":', '{"name":'])
def test_text_that_repeats_itself_is_read_in_time(fragment: str) -> None:
    assert read_calls(fragment * (400_000 // len(fragment)), "llama3_json").calls == ()


@pytest.mark.parametrize(("form", "text", "words"), MALFORMED)
def test_a_malformed_call_has_a_reason(form: Form, text: str, words: str) -> None:
    read = read_calls(text, form)
    assert (read.content, list(read.calls)) == (text, [])
    assert read.error.startswith(words)
    assert ". Expected " in read.error


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (None, "hermes"),
        ("... '<tool_call>' ... \"parameters\"", "hermes"),
        ("{{ '[TOOL_CALLS]' }}", "mistral"),
        ('{{ "<|python_tag|>" }}', "llama3_json"),
    ],
)
def test_the_template_tells_the_form(template: str | None, form: Form) -> None:
    assert form_of(template) == form


def test_special_tokens_are_read_before_they_are_dropped() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]"]})
    tokenizer.chat_template = f"{{# [TOOL_CALLS] #}}{tokenizer.chat_template}"
    chat = Chat(tokenizer)
    ids = [*tokenizer.encode(f"[TOOL_CALLS] [{ADDS}]"), tokenizer.eos_token_id]
    assert "[TOOL_CALLS]" not in chat.text(ids)
    assert list(parsed(chat, ids).calls) == [ADD]


def test_a_message_is_openais() -> None:
    message: dict[str, Any] = read_calls(f"So.<tool_call>{ADDS}</tool_call>", "hermes").message(["c1"])
    assert message["content"] == "So."
    (call,) = message["tool_calls"]
    assert (call["id"], call["type"], call["function"]["name"]) == ("c1", "function", "add")
    assert json.loads(call["function"]["arguments"]) == {"a": 1}
