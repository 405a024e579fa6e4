"""Read tool calls from a completion, in the form of its model family: Hermes and Qwen, Llama 3, Mistral.

Special tokens are still in the text that is read: Mistral's `[TOOL_CALLS]` and Llama's `<|python_tag|>` are such.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["hermes", "llama3_json", "mistral"]
"""How a model family writes tool calls:

    hermes       <tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>, as often as needed; Qwen, too
    llama3_json  {"name": "f", "parameters": {"x": 1}}, several divided by `;`, with or without <|python_tag|>
    mistral      [TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}}], or [TOOL_CALLS]f{"x": 1}
"""

HERMES = re.compile(r"<tool_call>(.*?)</tool_call>|<tool_call>(.*)", re.DOTALL)
PYTHON_TAG = "<|python_tag|>"
MISTRAL = "[TOOL_CALLS]"
MISTRAL_NAME = re.compile(r"\s*([\w.-]+)(?:\[ARGS\])?\s*(?=\{)")
DECODER = json.JSONDecoder()
OBJECT = re.compile(r'\{(?=\s*["}])')
MOST_BROKEN = 100  # objects that cannot be read; with more the text is plain, for each takes as long as the text


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the policy wrote it."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A completion as its reader sees it. With an `error` there are no calls, and the content is the whole text."""

    content: str
    calls: Sequence[ToolCall] = ()
    error: str = ""  # for the policy to read: what is wrong with its call

    def message(self, ids: Sequence[str] = ()) -> dict[str, Any]:
        """The completion as an OpenAI message of the assistant; `ids` name its calls."""
        if not self.calls:
            return {"role": "assistant", "content": self.content}
        functions = [{"name": call.name, "arguments": json.dumps(call.arguments)} for call in self.calls]
        named = [
            {"id": name, "type": "function", "function": function}
            for name, function in zip(ids or map(str, range(len(functions))), functions, strict=False)
        ]
        return {"role": "assistant", "content": self.content.strip() or None, "tool_calls": named}


class MalformedCallError(ValueError):
    """A text begins a tool call and does not end one."""


def form_of(chat_template: str | None) -> Form:
    """Tell the form from the chat template of a model, which writes earlier calls in it; `hermes` where it has none."""
    template = chat_template or ""
    if MISTRAL in template:
        return "mistral"
    if "<tool_call>" not in template and (PYTHON_TAG in template or '"parameters"' in template):
        return "llama3_json"
    return "hermes"


def read_calls(text: str, form: Form) -> Parsed:
    """Read a completion: its calls and the content before them, or the reason why a call cannot be read.

    Args:
        text: with special tokens, but for the one that ends the turn.
    """
    try:
        content, calls = READERS[form](text)
    except MalformedCallError as error:
        return Parsed(text, error=f"{error}. Expected {EXAMPLES[form]}")
    return Parsed(content, calls) if calls else Parsed(text)


def _hermes(text: str) -> tuple[str, list[ToolCall]]:
    bodies = [closed or open_ for closed, open_ in HERMES.findall(text)]
    return text.partition("<tool_call>")[0], [_call(_loaded(body), ("arguments",)) for body in bodies]


def _llama(text: str) -> tuple[str, list[ToolCall]]:
    """Objects between any texts are calls; without the tag, an object that names no call makes the text plain."""
    calls: list[ToolCall] = []
    tagged, end, broken = PYTHON_TAG in text, 0, 0
    begins = re.compile(r"\{") if tagged else OBJECT
    while match := begins.search(text, end):
        start = match.start()
        try:
            value, length = DECODER.raw_decode(text[start:])
        except (ValueError, RecursionError) as error:
            if tagged or re.match(r'\s*\{\s*"name"', text[start:]):
                raise MalformedCallError(f"the call is not JSON: {error}") from None
            end, broken = start + 1, broken + 1
            if broken > MOST_BROKEN:
                return text, []
            continue
        end = start + length
        if not tagged and not (isinstance(value, dict) and "name" in value):
            return text, []
        calls.append(_call(value, ("arguments", "parameters")))
    if tagged and not calls:
        raise MalformedCallError(f"nothing follows {PYTHON_TAG} that can be read")
    return text.partition(PYTHON_TAG)[0] if tagged else "", calls


def _mistral(text: str) -> tuple[str, list[ToolCall]]:
    content, mark, rest = text.partition(MISTRAL)
    if not mark:
        return text, []
    if rest.lstrip().startswith(("[", "{")):
        value, _ = _decoded(rest.lstrip())
        values = value if isinstance(value, list) else [value]
        return content, [_call(value, ("arguments",)) for value in values]
    calls = []
    for part in rest.split(MISTRAL):
        match = MISTRAL_NAME.match(part)
        if match is None:
            raise MalformedCallError(f"no name and arguments behind {MISTRAL}")
        arguments, _ = _decoded(part[match.end() :])
        calls.append(_call({"name": match[1], "arguments": arguments}, ("arguments",)))
    return content, calls


def _decoded(text: str) -> tuple[Any, int]:
    try:
        return DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise MalformedCallError(f"the call is not JSON: {error}") from None


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedCallError(f"the call is not JSON: {error}") from None


def _call(value: Any, keys: Sequence[str]) -> ToolCall:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise MalformedCallError("the call has no name")
    arguments = next((value[key] for key in keys if key in value), None)
    if not isinstance(arguments, dict):
        raise MalformedCallError(f"the call of {value['name']} has no object of {keys[-1]}")
    return ToolCall(value["name"], arguments)


READERS: Mapping[Form, Callable[[str], tuple[str, list[ToolCall]]]] = {
    "hermes": _hermes,
    "llama3_json": _llama,
    "mistral": _mistral,
}
EXAMPLES: Mapping[Form, str] = {
    "hermes": '<tool_call>{"name": "...", "arguments": {...}}</tool_call>',
    "llama3_json": '{"name": "...", "parameters": {...}}',
    "mistral": '[TOOL_CALLS] [{"name": "...", "arguments": {...}}]',
}
