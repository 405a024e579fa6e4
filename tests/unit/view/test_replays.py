"""Replays of steps as the page gets them: what is whole, and what is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmrl.run_folder.records import REPLAYS
from llmrl.view.replays import found
from llmrl.view.runs import RunView
from tests.view_runs import HOSTILE, write_replay, write_run


@pytest.fixture
def run(tmp_path: Path) -> RunView:
    return RunView(write_run(tmp_path / "run", steps=1, count=4), "run")


def test_a_step_has_its_own_replay_without_the_prompt(run: RunView) -> None:
    write_replay(run.folder, 0, HOSTILE)
    (replay,) = found(run, 0)
    assert replay["file"] == "step-000000.json"
    assert replay["episodes"][0]["texts"] == list(HOSTILE[2:4])
    assert replay["episodes"][0]["credit"]["rloo"] == [0.75, 0.25]
    assert found(run, 1) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda whole: whole.pop("verdicts"), "llmrl replay --view"),
        (lambda whole: whole.update(algorithms=[]), "algorithms"),
        (lambda whole: whole["verdicts"].update(numeric=[1]), "verdicts"),
        (lambda whole: whole["episodes"][0]["credit"].update(rloo=[0.5]), "episode 0"),
    ],
    ids=["key", "algorithms", "verdicts", "credit"],
)
def test_a_damaged_replay_is_named(change: Callable[[Any], Any], said: str, run: RunView) -> None:
    whole = write_replay(run.folder, 0, HOSTILE)
    change(whole)
    (run.folder / REPLAYS / "step-000000.json").write_text(json.dumps(whole))
    (replay,) = found(run, 0)
    assert said in replay["error"]


def test_a_cut_file_and_a_link_out_of_the_run(run: RunView, tmp_path: Path) -> None:
    (run.folder / REPLAYS).mkdir()
    (run.folder / REPLAYS / "cut.json").write_text('{"step": 0')
    (tmp_path / "outside.json").write_text("{}")
    (run.folder / REPLAYS / "link.json").symlink_to(tmp_path / "outside.json")
    (replay,) = found(run, 0)
    assert replay["file"] == "cut.json"
    assert replay["error"]
