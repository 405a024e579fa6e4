from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from llmrl.errors import DataError
from llmrl.run_folder.writer import Logs
from llmrl.view.runs import Runs, RunView, differences, natural, require_runs
from tests.view_runs import write_evaluation, write_run, write_step


def names(*folders: Path) -> list[str]:
    return [run.name for run in Runs(folders).found()]


def test_runs_are_found_below_what_is_given(tmp_path: Path) -> None:
    for name in ("grpo-10", "grpo-2", "deeper/ppo"):
        write_run(tmp_path / name, steps=1)
    write_run(tmp_path / "grpo-2" / "checkpoints" / "no", steps=1)
    (tmp_path / "empty").mkdir()
    assert names(tmp_path) == ["deeper/ppo", "grpo-2", "grpo-10"]
    assert names(tmp_path / "grpo-2") == ["grpo-2"]
    assert names(tmp_path / "empty") == []
    both = names(tmp_path / "grpo-2", tmp_path)
    assert len(both) == len(set(both)) == 3


def test_two_of_a_name_are_told_apart(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_run(tmp_path / place / "run", steps=1)
    found = Runs([tmp_path / "a", tmp_path / "b"])
    assert len({run.name for run in found.found()}) == 2
    for run in found.found():
        assert found.named(run.name) is run


def test_a_run_that_begins_later_is_found(tmp_path: Path) -> None:
    runs = Runs([tmp_path])
    assert not runs.found()
    write_run(tmp_path / "new", steps=1)
    first = runs.named("new")
    assert first is not None
    assert runs.found() == [first], "what was read of it is kept"
    assert runs.named("other") is None


def test_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"nowhere: no such folder; expected the folder of a run"):
        require_runs([tmp_path, tmp_path / "nowhere"])
    with pytest.raises(DataError, match=r"file: a file"):
        require_runs([tmp_path / "file"])


def test_metrics_grow_and_go_back(tmp_path: Path) -> None:
    run = RunView(write_run(tmp_path / "run", steps=3), "run")
    assert run.metrics()["reward"] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert "loss" not in run.metrics(), "NaN is no point of a curve"
    write_step(tmp_path / "run", 3)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    assert [step for step, _ in run.metrics()["reward"]] == [0, 1, 2, 3]
    Logs(tmp_path / "run", writes=True, share=1.0).forget_from(1)
    write_step(tmp_path / "run", 1)
    assert [step for step, _ in run.metrics()["reward"]] == [0, 1]
    assert run.summary()["steps"] == 2


def test_a_summary_survives_what_is_broken(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "grpo-3", steps=1, status="running")
    found = RunView(folder, "grpo-3").summary()
    assert (found["group"], found["status"], found["steps"], found["max_steps"]) == ("grpo", "running", 1, 1)
    for name in ("recipe.yaml", "manifest.json", "metrics.jsonl"):
        (folder / name).write_bytes(b"\xff{[not that")
    found = RunView(folder, "grpo-3").summary()
    assert (found["status"], found["steps"], found["max_steps"]) == ("", 0, None)
    for text in ("[]", "train: 5", "a: *b"):
        (folder / "recipe.yaml").write_text(text)
        assert RunView(folder, "x").summary()["max_steps"] is None


def test_recipes_are_compared_key_by_key(tmp_path: Path) -> None:
    runs = [RunView(write_run(tmp_path / name, steps=2), name) for name in ("a", "bb")]
    assert differences(runs) == [{"key": "train.seed", "values": ["1", "2"]}]
    (tmp_path / "bb" / "recipe.yaml").write_text(
        "model: {policy: nowhere/model}\ntrain: {max_steps: 2, seed: 1}\nx: {}\n"
    )
    assert differences(runs) == [{"key": "x", "values": [None, "{}"]}]


def test_files_are_those_of_the_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=1)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "errors.log").write_text("why")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(b"\x89PNG")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "final").mkdir()
    (folder / "final" / "config.json").write_text("{}")
    run = RunView(folder, "run")
    listed = {file["path"]: file["picture"] for file in run.files()}
    assert listed == {"errors.log": False, "pictures/a.png": True, "manifest.json": False, "recipe.yaml": False}
    for path in listed:
        assert run.file(path) == folder / path
    outside = ["link.txt", "up/secret.txt", "../secret.txt", str(tmp_path / "secret.txt"), "model.safetensors", "", "."]
    for path in [*outside, "a\0.txt", "pictures", "nothing.txt", "pictures/../../secret.txt"]:
        assert run.file(path) is None, path


def test_numbers_in_names_are_numbers() -> None:
    assert sorted(["a10", "a9", "b", "a", "10", "9"], key=natural) == ["9", "10", "a", "a9", "a10", "b"]
    assert sorted(["²1", "1²"], key=natural)


def test_folders_of_evaluations_are_runs_too(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "eval" / "model", [True])
    (run,) = Runs([tmp_path]).found()
    assert run.name == "eval/model"
    assert not run.summary()["episodes"]
    assert json.dumps(run.summary())
    assert math.isfinite(run.changed())
    assert os.path.exists(run.folder)
