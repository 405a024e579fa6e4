"""Tables of completions: which episodes, what of them, and what trackers get."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import llmrl
from llmrl.samples import Sample
from llmrl.train import tables
from llmrl.types import Problem, Score, Trajectory
from tests.builders import episodes


def groups(*sizes: int) -> list[list[Trajectory]]:
    made = []
    for number, size in enumerate(sizes):
        problem = Problem(id=f"p{number}", messages=[{"role": "user", "content": f"{number}+1?"}])
        played = episodes(*(f"it is {i}" for i in range(size)), problem=problem)
        made.append([scored(one, f"g{number}", i) for i, one in enumerate(played)])
    return made


def scored(one: Trajectory, group: str, episode: int) -> Trajectory:
    from dataclasses import replace

    return replace(one, group=group, episode=episode, score=Score(float(episode), "wrong", reason="no | number"))


def sample(group: str, episode: int, *advantages: float) -> Sample:
    turns = [-1, *[0] * len(advantages)]
    made = Sample(
        group=group, episode=episode, reward=0.0, columns={"token_ids": list(range(len(turns))), "turn_ids": turns}
    )
    return made.assign(advantages=[0.0, *advantages])


def test_rows_are_of_as_many_groups_as_there_are() -> None:
    rows = tables.completions(3, groups(2, 1, 3), [sample("g0", 0, 0.5, -2.0, 1.0)], most=5)
    assert [(row[0], row[1], row[2]) for row in rows] == [
        (3, "user: 0+1?", "it is 0"),
        (3, "user: 1+1?", "it is 0"),
        (3, "user: 2+1?", "it is 0"),
        (3, "user: 0+1?", "it is 1"),
        (3, "user: 2+1?", "it is 1"),
    ]
    assert rows[0][3:] == [0.0, -2.0, "wrong", "no | number"]
    assert rows[1][4] is None
    assert tables.completions(3, groups(2), [], most=0) == []
    assert tables.completions(3, [], [], most=5) == []


def test_long_texts_lose_their_middle() -> None:
    (played,) = groups(1)
    from dataclasses import replace

    long = replace(played[0], turns=[replace(played[0].turns[0], text="a" * 3000 + "b" * 3000)])
    ((*_, said, _, _, _, _),) = tables.completions(0, [[long]], [], most=1)
    assert said == f"{'a' * 2000} ... {'b' * 2000}"


def test_trackers_without_tables_get_none() -> None:
    tables.log_completions([SimpleNamespace(name="mlflow")], 0, [["row"]])


def recipe(folder: Path, model: Path, tracker: str, **train: Any) -> dict[str, Any]:
    return {
        "model": {"policy": str(model)},
        "data": {"name": "arithmetic", "high": 3},
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf"},
        "rollout": {"num_generations": 2, "prompts_per_step": 2, "max_completion_length": 4, "max_prompt_length": 64},
        "train": {"max_steps": 2, "output_dir": str(folder), "run_name": "r", "report_to": tracker, **train},
    }


def lengths(completions: list[str], **_: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def test_tensorboard_shows_them(tiny_model_dir: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = llmrl.train(recipe(tmp_path, tiny_model_dir, "tensorboard", table_rows=3), reward=lengths)
    (events,) = run.folder.rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events))
    read.Reload()
    texts = [bytes(event.tensor_proto.string_val[0]).decode() for event in read.Tensors("completions/text_summary")]
    assert len(texts) == 2
    lines = texts[1].split("\n")
    assert len(lines) == 2 + 3
    assert lines[0] == "| step | prompt | completion | reward | advantage | verdict | reason |"
    assert all(line.replace("\\|", "").count("|") == 8 for line in lines)
    assert lines[2].startswith("| 1 | user: ")


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed: pip install wandb")
def test_wandb_offline_has_them(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    llmrl.train(recipe(tmp_path, tiny_model_dir, "wandb"), reward=lengths)
    found = [json.loads(file.read_text()) for file in tmp_path.rglob("completions*.table.json")]
    assert [table["columns"] for table in found] == [list(tables.COLUMNS)] * 2
    assert [len(table["data"]) for table in found] == [4, 4]


@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed: pip install trackio")
def test_trackio_has_them(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run = llmrl.train(recipe(tmp_path, tiny_model_dir, "trackio"), reward=lengths)
    files = [path for path in (tmp_path / "trackio").rglob("*") if path.is_file()]
    written = b"".join(path.read_bytes() for path in files)
    assert b"trackio.table" in written
    prompts = [
        json.loads(line)["prompt"][0]["content"] for line in (run.folder / "rollouts.jsonl").read_text().splitlines()
    ]
    assert all(f"user: {prompt}".encode() in written for prompt in prompts)
