"""A pipeline by the real command: killed and stopped at every kind of moment, and changed afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import pipelines

ROOT = Path(__file__).parents[2]


class Started:
    """`llmrl train` of a recipe of stages, its output in a file."""

    def __init__(self, recipe: Path, *arguments: str) -> None:
        self.mark = str(recipe)
        self.log = recipe.with_suffix(".log")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", pipelines.MARK: self.mark}
        command = [sys.executable, "-m", "llmrl", "train", str(recipe), "--quiet", *arguments]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env=environment, cwd=ROOT, start_new_session=True
            )

    def wait(self, code: int = 0) -> str:
        assert self.process.wait(240) == code, self.log.read_text()[-4000:]
        return self.log.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 240
        while not condition():
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < until, self.log.read_text()[-4000:]
            time.sleep(0.01)

    def kill(self) -> None:
        pipelines.kill_all(self.mark)
        self.process.wait(30)


@pytest.fixture(scope="module")
def whole(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A pipeline that ran through: its recipe and its folder."""
    recipe, folder = pipelines.write(tmp_path_factory.mktemp("whole"), pipelines.THREE, tiny_model_dir)
    started = Started(recipe)
    try:
        started.wait()
        yield recipe, folder
    finally:
        started.kill()


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.slow
def test_killed_between_and_inside_stages_it_makes_the_same(
    whole: tuple[Path, Path], tiny_model_dir: Path, tmp_path: Path
) -> None:
    recipe, folder = pipelines.write(tmp_path, pipelines.THREE, tiny_model_dir)
    moments: dict[str, Callable[[], bool]] = {
        "inside the first": lambda: (folder / "sft" / "resolved.json").exists(),
        "between two": lambda: pipelines.finished(folder) == ["sft"],
        "inside the second": lambda: lines(folder / "collect" / "metrics.jsonl") >= 2,
        "while the second is recorded": lambda: (folder / "collect" / "final").exists(),
    }
    for moment in moments.values():
        started = Started(recipe)
        started.wait_for(moment)
        started.kill()
    started = Started(recipe)
    started.wait_for(lambda: lines(folder / "clone" / "metrics.jsonl") >= 1)
    os.kill(started.process.pid, signal.SIGTERM)
    text = started.wait(128 + signal.SIGTERM)
    assert "the same command goes on" in text
    assert "Traceback" not in text
    assert pipelines.finished(folder) == ["collect", "sft"]
    text = Started(recipe).wait()
    assert "stage sft: done" in text
    assert "stage clone: resumes" in text
    assert pipelines.made(folder) == pipelines.made(whole[1])
    assert not list(folder.glob("*.stale-*"))


def test_a_changed_byte_redoes_what_lies_behind_it(whole: tuple[Path, Path]) -> None:
    recipe, folder = whole
    before = pipelines.made(folder)
    when = {name: (folder / name / "stage.json").stat().st_mtime_ns for name in ("sft", "collect", "clone")}
    rollouts = folder / "collect" / "rollouts.jsonl"
    old = rollouts.read_bytes()
    assert b'"reward":0.0' in old
    rollouts.write_bytes(old.replace(b'"reward":0.0', b'"reward":1.0', 1))
    assert "${collect.rollouts} has changed" in Started(recipe, "--dry-run").wait()
    assert pipelines.made(folder).keys() == before.keys(), "a dry run changes nothing"
    Started(recipe).wait()
    now = {name: (folder / name / "stage.json").stat().st_mtime_ns for name in when}
    assert [name for name in when if when[name] != now[name]] == ["clone"]
    kept = folder / "clone.stale-1" / "final" / "model.safetensors"
    assert kept.exists()
    assert json.loads((folder / "clone.stale-1" / "stage.json").read_text())["finished"]
    assert "done" in Started(recipe, "--dry-run").wait()


def test_a_failure_ends_the_pipeline_and_the_rest_stays(tiny_model_dir: Path, tmp_path: Path) -> None:
    recipe, folder = pipelines.write(tmp_path, pipelines.THREE, tiny_model_dir)
    (tmp_path / "rows.jsonl").write_text("broken\n")
    text = Started(recipe).wait(1)
    assert f"{tmp_path / 'rows.jsonl'}:1" in text
    assert "Traceback" not in text
    assert not (folder / "collect").exists()


def test_a_search_feeds_what_learns_from_its_pairs(tiny_model_dir: Path, tmp_path: Path) -> None:
    recipe, folder = pipelines.write(tmp_path, pipelines.SEARCHED, tiny_model_dir)
    first = Started(recipe)
    first.wait_for(lambda: (folder / "trees" / "trees.jsonl").exists())
    first.kill()
    assert "stage trees: resumes" in Started(recipe).wait()
    pairs = [json.loads(line) for line in (folder / "trees" / "preference.jsonl").read_text().splitlines()]
    assert pairs
    assert all(pair["q_chosen"] > pair["q_rejected"] for pair in pairs)
    assert (folder / "trees" / "sft.jsonl").read_text()
    assert (folder / "trees" / "stepwise.jsonl").read_text()
    steps = [json.loads(line) for line in (folder / "apo" / "metrics.jsonl").read_text().splitlines()]
    assert steps[0]["rewards/margins"] == 0.0, "the policy is its own reference before the first step"
    assert steps[-1]["pairs"] > 0
