"""Episodes as conversations to imitate, in the form of SWE-smith's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmrl.swe.trajectories import conversation, rows
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

EXAMPLE = Path(__file__).parents[4] / "shared" / "data" / "swe_smith_logs" / "sft_example.jsonl"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "bash",
            "description": "Run it.",
            "parameters": {
                "type": "object",
                "properties": {"command": {"type": "string", "description": "For bash."}},
                "required": ["command"],
            },
        },
    },
    {"type": "function", "function": {"name": "submit", "description": "End.", "parameters": {"properties": {}}}},
]
CALL = '<tool_call>{"name": "bash", "arguments": {"command": "ls", "n": 1}}</tool_call>'


def turn(text: str, reply: str = "") -> Turn:
    completion = Completion(token_ids=[1], logprobs=[0.0], finish="stop", version=0)
    messages: list[Mapping[str, Any]] = [{"role": "tool", "content": reply}] if reply else []
    return Turn(prompt_ids=[], completion=completion, text=text, reply=messages)


def episode(value: float) -> Trajectory:
    turns = [turn(f"Let me look.\n{CALL}", "a.py"), turn('<tool_call>{"name": "submit", "arguments": {}}</tool_call>')]
    return Trajectory(
        problem=Problem(id="p", messages=[], info={"instance_id": "a__b-1"}),
        turns=turns, status="done", score=Score(value), shown=[{"role": "user", "content": "Issue"}], tools=TOOLS,
    )  # fmt: skip


def test_a_conversation() -> None:
    system, *messages = conversation(episode(1.0))
    assert (
        "---- BEGIN FUNCTION #1: bash ----\nDescription: Run it.\n\nParameters:\n  (1) command (string, required): For"
        in (system["content"])
    )
    assert "FUNCTION #2: submit ----\nDescription: End.\nNo parameters are required" in system["content"]
    assert messages == [
        {"role": "user", "content": "Issue"},
        {
            "role": "assistant",
            "content": "Let me look.\n\n<function=bash>\n<parameter=command>ls</parameter>\n<parameter=n>1</parameter>"
            "\n</function>",
        },
        {"role": "user", "content": "OBSERVATION:\na.py"},
        {"role": "assistant", "content": "<function=submit>\n</function>"},
    ]


def test_only_what_earned_enough() -> None:
    made = list(rows([episode(0.0), episode(1.0)]))
    assert [row["instance_id"] for row in made] == ["a__b-1"]


def test_the_form_is_swe_smiths() -> None:
    if not EXAMPLE.is_file():
        pytest.skip(f"{EXAMPLE} is not there")
    theirs = json.loads(EXAMPLE.read_text(encoding="utf-8").splitlines()[0])
    ours = next(rows([episode(1.0)]))
    assert theirs.keys() == ours.keys()
    for row in (theirs, ours):
        assert [message["role"] for message in row["messages"]][:4] == ["system", "user", "assistant", "user"]
        assert row["messages"][2]["content"].endswith("</function>")
        assert row["messages"][3]["content"].startswith("OBSERVATION:\n")
        assert "---- BEGIN FUNCTION #1: bash ----\nDescription: " in row["messages"][0]["content"]
        assert row["messages"][-1]["content"].endswith("<function=submit>\n</function>")
