"""`llmrl play` and `llmrl data play`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llmrl.cli.main import app
from llmrl.errors import RecipeError

U = "{name: maze, layout: u, instructions: false}"


def typed(*words: str, keys: str = "") -> Result:
    return CliRunner().invoke(app, list(words), input=keys)


def test_a_person_plays(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "here", "prompt": "x", "answer": "y", "start": "2,3"}\n')
    done = typed("play", U, "--data", f"{{name: jsonl, path: '{rows}'}}", keys="dance\nmove down\n")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "The goal is at position 3, 3. Your current position is at position 2, 3. There are walls to your right, to "
        "your left.",
        "> The goal is at position 3, 3. Your current position is at position 2, 3. There are walls to your right, to "
        "your left.",
        "(reward -4)",
        "> Success",
        "here: return -4 in 2 moves, correct return=-4 moves=2 illegal=1",
    ]


def test_a_person_may_leave() -> None:
    done = typed("play", "wordle", keys="crane\n")
    assert done.exit_code == 0
    assert done.stdout.endswith("ended before the game did\n")


def test_scripted_players_print_their_returns() -> None:
    done = typed("play", U, "--player", "oracle", "--episodes", "7", "--quiet")
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    # six starts, and the first again: optima of 0 to -5
    assert sorted(line.split()[2] for line in lines[:6]) == ["-1", "-2", "-3", "-4", "-5", "0"]
    assert lines[6] == lines[0]
    assert lines[7].startswith("7 episodes: mean return -")
    assert "> move" in typed("play", U, "--player", "random").stdout


def test_agents_are_told_apart(tmp_path: Path) -> None:
    """Both sides of Nim: who is to act is named, and each has its own return, also of what the other's move gave."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "here", "prompt": "x", "answer": "y", "start": "2"}\n')
    game = "{name: nim, opponent: agent, instructions: false, heaps: 1}"
    done = typed("play", game, "--data", f"{{name: jsonl, path: '{rows}'}}", keys="a1\na1\n")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[:-1] == [
        "[first]",
        "a2",
        "> [second]",
        "a1",
        "> (reward 1)",
        "(reward of first -1)",
    ]
    assert done.stdout.splitlines()[-1].startswith("here: return first=-1 second=1 in 2 moves, wrong ")
    done = typed("play", game, "--player", "oracle", "--episodes", "2", "--quiet")
    assert done.stdout.splitlines()[-1] == "2 episodes: mean return first=1"


def test_demonstrations_are_written(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    done = typed("data", "play", U, "--split", "all", "--episodes", "6", "--out", str(out))
    assert done.stdout == f"6 episodes, mean return -2.5: {out}\n"
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("play", "maze", "--player", "orcale"), "did you mean 'oracle'"),
        (("play", "single_turn"), "name its problems by --data"),
        (("play", "nothing"), "unknown env 'nothing'"),
        (("play", "maze", "--data", "{name: games, env: maze, split: none}"), "split"),
        (("data", "play", "maze", "--out", "x.jsonl", "--player", "person"), "'random' or 'oracle'"),
        (("data", "play", "single_turn", "--out", "x.jsonl"), "is no text game"),
        (
            ("data", "play", "{name: nim, opponent: agent}", "--out", "x.jsonl"),
            "first, second play as agents, and rows are of one player",
        ),
    ],
)
def test_refusals(words: tuple[str, ...], message: str) -> None:
    done = typed(*words)
    assert isinstance(done.exception, RecipeError)
    assert message in str(done.exception)
