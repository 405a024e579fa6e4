"""Commands that are proposed after a run fit what it has trained."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from llmrl.cli.next_steps import after_demo, after_training
from llmrl.recipe import parse
from llmrl.run_folder import command


def trained(**sections: Any) -> str:
    whole = {
        "model": {"policy": "m"},
        "data": {"name": "jsonl", "path": "q.jsonl"},
        "reward": {"name": "numeric"},
        "algorithm": {"name": "grpo"},
    }
    return after_training(parse(whole | sections), Path("runs/mine/final")).partition("llmrl ")[2]


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"data": {"name": "gsm8k"}}, "eval runs/mine/final --benchmarks gsm8k"),
        ({"data": {"name": "math"}, "engine": {"name": "hf"}}, "eval runs/mine/final --benchmarks math --engine hf"),
        (
            {"eval": {"every": 1, "benchmarks": ["aime24", "math500"]}},
            "eval runs/mine/final --benchmarks aime24,math500",
        ),
        ({"env": {"name": "maze"}, "data": {"name": "games", "env": "maze"}}, "eval runs/mine/final --benchmarks maze"),
        ({"data": {"name": "perturbed", "of": {"name": "math"}}}, "eval runs/mine/final --benchmarks math"),
        ({}, "serve runs/mine/final"),
    ],
)
def test_a_benchmark_of_its_own_data_or_a_server(sections: dict[str, Any], expected: str) -> None:
    assert trained(**sections) == expected


def test_the_demo_asks_greedily_and_proposes_what_the_machine_can_do() -> None:
    lines = after_demo(Path("runs/demo"), "arithmetic").splitlines()
    assert '"temperature": 0' in lines[3]
    assert '"model": "runs/demo/final"' in lines[3]
    assert shlex.split(lines[4])[1:3] == ["train", "recipes/demo.yaml"]


def test_an_environment_that_is_not_activated_is_typed_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / ".venv" / "bin"
    place.mkdir(parents=True)
    (place / "llmrl").write_text("#!/bin/sh\n")
    (place / "llmrl").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(place / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert command.program() == ".venv/bin/llmrl"
    monkeypatch.setenv("PATH", str(place))
    assert command.program() == "llmrl"
