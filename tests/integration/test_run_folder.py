"""Folders of runs: one that has begun is never overwritten, and two runs are never in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmrl.errors import CheckpointError, LlmrlError
from llmrl.recipe import Recipe, parse
from llmrl.run_folder.lock import FolderLock
from llmrl.train.loop import train
from llmrl.train.run import Run

ROOT = Path(__file__).parents[2]


def recipe(model: Path, out: Path) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 3},
            "reward": {"name": "numeric"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "rollout": {
                "num_generations": 2,
                "prompts_per_step": 1,
                "max_completion_length": 4,
                "max_prompt_length": 32,
                "reward_workers": 1,
            },
            "train": {"max_steps": 2, "save_steps": 1, "output_dir": str(out), "report_to": "none"},
        }
    )


@pytest.fixture(scope="module")
def finished(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe, and the folder of its run, which has ended."""
    made = recipe(tiny_model_dir, tmp_path_factory.mktemp("runs"))
    with Run(made, name="one") as run:
        train(run)
    return made, run.folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


BROKEN: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "is missing"),
    "empty": (b"", "is empty"),
    "only a comment": (b"# nothing\n", "cannot be read"),
    "no YAML": (b"a: [", r"cannot be read \(not YAML"),
    "zeros": (b"\0" * 512, "cannot be read"),
    "no text": (b"\xff\xfe", r"cannot be read \(not UTF-8"),
    "a list": (b"- 1\n", r"cannot be read \(expected sections"),
}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("how", BROKEN)
def test_a_run_without_its_recipe_is_never_overwritten(
    how: str, resume: bool, finished: tuple[Recipe, Path], tmp_path: Path
) -> None:
    made, folder = finished
    original = (folder / "recipe.yaml").read_bytes()
    content, words = BROKEN[how]
    (folder / "recipe.yaml").unlink()
    if content is not None:
        (folder / "recipe.yaml").write_bytes(content)
    before = contents(folder)
    expected = (
        rf"already holds a run \(metrics.jsonl, rollouts.jsonl, checkpoints, final\), and its recipe.yaml {words}"
    )
    try:
        with pytest.raises(CheckpointError, match=expected + r".*--dry-run > .*recipe.yaml`, and go on with --resume"):
            Run(made, resume=resume, name="one")
        assert contents(folder) == before
    finally:
        (folder / "recipe.yaml").write_bytes(original)


@pytest.mark.parametrize("trace", ["metrics.jsonl", "rollouts.jsonl", "checkpoints/step-000001.partial/x", "final/x"])
@pytest.mark.parametrize("resume", [False, True])
def test_each_trace_of_a_run_is_enough(trace: str, resume: bool, tiny_model_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "one" / trace
    path.parent.mkdir(parents=True)
    path.write_text("something")
    with pytest.raises(CheckpointError, match=rf"already holds a run \({trace.partition('/')[0]}\)"):
        Run(recipe(tiny_model_dir, tmp_path), resume=resume, name="one")
    assert path.read_text() == "something"


def test_a_run_goes_on_with_the_recipe_that_the_message_asks_for(finished: tuple[Recipe, Path], tmp_path: Path) -> None:
    made, folder = finished
    (tmp_path / "mine.yaml").write_bytes((folder / "recipe.yaml").read_bytes())
    (folder / "recipe.yaml").unlink()
    command = [sys.executable, "-m", "llmrl", "train", str(tmp_path / "mine.yaml"), "--dry-run"]
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    (folder / "recipe.yaml").write_text(printed.stdout)
    with Run(made, resume=True, name="one") as run:
        assert run.first_step == 2


def test_a_run_that_has_ended_without_checkpoints_is_not_begun_again(
    finished: tuple[Recipe, Path], tmp_path: Path
) -> None:
    made, folder = finished
    (folder / "checkpoints").rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(CheckpointError, match="has ended and left no checkpoint to go on from; choose another"):
            Run(made, resume=True, name="one")
        assert (folder / "final" / "model.safetensors").exists()
    finally:
        (tmp_path / "elsewhere").rename(folder / "checkpoints")


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_a_folder_is_refused_while_the_first_lives(
    resume: bool, tiny_model_dir: Path, tmp_path: Path
) -> None:
    made = recipe(tiny_model_dir, tmp_path)
    with Run(made, name="one") as run:
        before = contents(run.folder)
        with pytest.raises(CheckpointError, match=rf"one: in use by process {os.getpid()} on .*another train.run_name"):
            Run(made, resume=resume, name="one")
        assert contents(run.folder) == before
    with FolderLock(tmp_path / "one", "go away"), pytest.raises(LlmrlError, match="in use"):
        Run(made, name="one")
    with Run(made, name="one") as run:
        train(run)
