"""`llmrl play`: a person in the policy's place."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from llmrl.aio import wait
from llmrl.cli.main import app
from llmrl.cli.play import by_hand
from llmrl.errors import DataError
from llmrl.types import Problem
from tests.unit.rollout.hostile import Counting

PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "?"}])


def test_an_episode_is_shown_message_by_message() -> None:
    shown: list[str] = []
    env = Counting()
    assert wait(by_hand(env.make(PROBLEM), lambda _: "a", shown.append)) == 2.0
    go_on = ["user: go on", "reward +0.5"]
    assert shown == ["user: ?", *go_on, *go_on, "reward +1", "done, correct", "return 2"]
    assert env.open == 0


def test_the_end_of_the_input_gives_up_and_closes() -> None:
    shown: list[str] = []
    env = Counting()

    def ask(_: str) -> str:
        raise EOFError

    assert wait(by_hand(env.make(PROBLEM), ask, shown.append)) == 0.0
    assert shown[-2:] == ["given up", "return 0"]
    assert env.open == 0


def test_the_command_names_environment_and_data() -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["play", "single_turn", *arguments], input="7\n")

    assert "=" in run("--data", "arithmetic").output
    with pytest.raises(DataError, match="--problem 1000000: the data has fewer problems"):
        raise run("--data", "{name: jsonl, path: data/tiny/gsm8k.jsonl}", "--problem", "1000000").exception
