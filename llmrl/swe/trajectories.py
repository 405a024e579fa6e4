"""Episodes of an agent as conversations to imitate, in the form of SWE-smith: calls are tags in the text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llmrl.tool_calls.forms import Form, read_calls
from llmrl.types import Trajectory

SYSTEM = "You are a helpful assistant that can interact with a computer to solve tasks.\n"
SYSTEM += "You have access to the following functions:\n\n{functions}\n\n"
SYSTEM += "If you choose to call a function, give your reasoning first, then:\n"
SYSTEM += "<function=example_function_name>\n<parameter=example_parameter_1>value_1</parameter>\n</function>"


def rows(episodes: Iterable[Trajectory], least: float = 1.0) -> Iterator[dict[str, Any]]:
    """Yield a row for each episode that earned at least so much: `messages` and `instance_id`."""
    for episode in episodes:
        if episode.earned is not None and episode.earned >= least and episode.turns:
            yield {"messages": conversation(episode), "instance_id": instance_id(episode)}


def instance_id(episode: Trajectory) -> str:
    """Name of the instance, as its row has it."""
    return str(episode.problem.info.get("instance_id") or episode.problem.id)


def conversation(episode: Trajectory, form: Form | None = None) -> list[dict[str, str]]:
    """The messages of an episode: system with the functions, the issue, then answers and what they brought about.

    Args:
        form: in which the policy wrote its calls; None: whichever reads one.
    """
    shown = [{"role": str(m["role"]), "content": str(m["content"])} for m in episode.shown or episode.problem.messages]
    messages = [{"role": "system", "content": SYSTEM.format(functions=functions_text(episode.tools))}, *shown]
    for turn in episode.turns:
        messages.append({"role": "assistant", "content": answer_text(turn.text, form)})
        if turn.reply:
            seen = "\n".join(str(message["content"]) for message in turn.reply)
            messages.append({"role": "user", "content": f"OBSERVATION:\n{seen}"})
    return messages


def answer_text(text: str, form: Form | None = None) -> str:
    """An answer with its calls as tags; one without calls as it is."""
    for each in (form,) if form else ("hermes", "llama3_json", "mistral"):
        read = read_calls(text, each)  # type: ignore[arg-type]
        if read.calls:
            calls = "\n\n".join(_call_text(call.name, call.arguments) for call in read.calls)
            return f"{read.content.strip()}\n\n{calls}".strip()
    return text


def _call_text(name: str, arguments: Mapping[str, Any]) -> str:
    given = [f"<parameter={key}>{_value_text(value)}</parameter>" for key, value in arguments.items()]
    return "\n".join([f"<function={name}>", *given, "</function>"])


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def functions_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """Functions in words, from their schemas."""
    return "\n\n".join(_function_text(number, tool["function"]) for number, tool in enumerate(tools, 1))


def _function_text(number: int, function: Mapping[str, Any]) -> str:
    lines = [f"---- BEGIN FUNCTION #{number}: {function['name']} ----", f"Description: {function['description']}"]
    schema = function.get("parameters") or {}
    parameters = schema.get("properties", {})
    lines += ["", "Parameters:"] if parameters else ["No parameters are required for this function."]
    for place, (name, about) in enumerate(parameters.items(), 1):
        need = "required" if name in schema.get("required", ()) else "optional"
        lines.append(f"  ({place}) {name} ({about.get('type', 'string')}, {need}): {about.get('description', '')}")
    return "\n".join([*lines, f"---- END FUNCTION #{number} ----"])
