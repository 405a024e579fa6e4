"""Agreement with vLLM's parsers of tool calls: what they find in a text, llmrl finds, and nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from llmrl.tiny import make_tokenizer
from llmrl.tool_calls.forms import Form, read_calls

ADD, SUB = '{"name": "add", "arguments": {"a": [1, {"b": "}"}], "c": "é"}}', '{"name": "sub", "arguments": {}}'
TEXTS: list[tuple[Form, str]] = [
    ("hermes", f"<tool_call>{ADD}</tool_call>"),
    ("hermes", f"I add.\n<tool_call>\n{ADD}\n</tool_call>\n<tool_call>\n{SUB}\n</tool_call>"),
    ("hermes", f"<tool_call>{SUB}"),
    ("hermes", "no call"),
    ("hermes", '<tool_call>{"name": "add", }</tool_call>'),
    ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
    ("llama3_json", ADD.replace("arguments", "parameters")),
    ("llama3_json", f"{ADD}; {SUB}"),
    ("llama3_json", f"<|python_tag|>{ADD}"),
    ("llama3_json", "no call"),
    ("llama3_json", '{"no": "call"}'),
    ("llama3_json", '{"name": "add"'),
    ("mistral", f"[TOOL_CALLS] [{ADD}, {SUB}]"),
    ("mistral", f"I add.[TOOL_CALLS][{ADD}]"),
    ("mistral", "no call"),
]
MODULES = {
    "hermes": ("hermes_tool_parser", "Hermes2ProToolParser"),
    "llama3_json": ("llama_tool_parser", "Llama3JsonToolParser"),
    "mistral": ("mistral_tool_parser", "MistralToolParser"),
}


@pytest.fixture(scope="module")
def parsers() -> Iterator[dict[str, Any]]:
    """vLLM's parsers by form, over a tokenizer that has the special tokens that they ask for."""
    import importlib

    pytest.importorskip("vllm", reason="vLLM is not installed")
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]"])
    made = {}
    for form, (module, name) in MODULES.items():
        found = importlib.import_module(f"vllm.tool_parsers.{module}")
        made[form] = getattr(found, name)(tokenizer)
    logging.disable(logging.ERROR)  # they log a traceback of a malformed call
    yield made
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("form", "text"), TEXTS)
def test_the_same_calls_are_found(parsers: dict[str, Any], form: Form, text: str) -> None:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    request = ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "?"}])
    theirs = parsers[form].extract_tool_calls(text, request)
    expected = [(call.function.name, json.loads(call.function.arguments)) for call in theirs.tool_calls]
    mine = read_calls(text, form)
    assert [(call.name, dict(call.arguments)) for call in mine.calls] == expected
    if expected:
        content = theirs.content or ""
        assert mine.content.strip() == content.strip()
