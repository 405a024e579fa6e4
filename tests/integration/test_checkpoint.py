"""Checkpoints: what a kill, a full disk, a broken file or another recipe does to them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmrl.chat import load_tokenizer
from llmrl.errors import CheckpointError, DataError, RecipeError, TrainingError
from llmrl.plugins import build
from llmrl.recipe import Recipe, parse
from llmrl.rollout.source import RolloutSource
from llmrl.run_folder import checksums
from llmrl.train import state_file
from llmrl.train.checkpoints import Checkpoints, export
from llmrl.train.learners import Learners
from llmrl.train.loop import train
from llmrl.train.parallel import accelerator
from llmrl.train.run import Run

STATE: dict[str, dict[str, Any]] = {
    "source": {"position": 3, "pending": [{"token_ids": array("i", [5, 2**31 - 1]), "logprobs": array("f", [-0.1])}]},
    "updates": {"in_a_row": 0},
    "evaluation": {"best": None},
}
Saved = tuple[Callable[[int], Checkpoints], Learners]


def recipe(model: Path, out: Path, **train_options: Any) -> Recipe:
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
            "train": {"max_steps": 2, "save_steps": 1, "output_dir": str(out), "report_to": "none", **train_options},
        }
    )


@pytest.fixture
def saved(tiny_model_dir: Path, tmp_path: Path) -> Saved:
    """Checkpoints that keep so many, and the model that they hold."""
    made = recipe(tiny_model_dir, tmp_path)
    processes = accelerator(made.train)
    learners = Learners(made, processes, frozenset())
    return lambda keep: Checkpoints(tmp_path / "checkpoints", processes, keep), learners


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_restore_puts_everything_back(saved: Saved, tmp_path: Path) -> None:
    keep, learners = saved
    before = {name: value.clone() for name, value in learners.policy.net.state_dict().items()}
    torch.manual_seed(7)
    path = keep(2).save(1, STATE)
    drawn = torch.rand(3)
    with torch.no_grad():
        for parameter in learners.policy.net.parameters():
            parameter.add_(1.0)
    assert keep(2).restore(path) == (1, STATE)
    assert all(torch.equal(value, before[name]) for name, value in learners.policy.net.state_dict().items())
    assert torch.equal(torch.rand(3), drawn), "the generators go on where they were"


def test_the_newest_and_the_best_are_kept(saved: Saved, tmp_path: Path) -> None:
    checkpoints = saved[0](2)
    (tmp_path / "checkpoints" / "step-000009.partial").mkdir(parents=True)  # of a run that was killed
    for step in range(1, 6):
        checkpoints.save(step, STATE, best=2 if step > 1 else None)
    assert names(tmp_path) == ["step-000002", "step-000004", "step-000005"]
    assert checkpoints.latest() == tmp_path / "checkpoints" / "step-000005"
    checkpoints.save(6, STATE, best=6)
    assert names(tmp_path) == ["step-000005", "step-000006"], "the old best is one of many now"


FILES = (state_file.JSON, state_file.ARRAYS)
KILLED = """
import os, signal, sys
from pathlib import Path
from llmrl.train import checkpoints as module
from llmrl.train.learners import Learners
from llmrl.train.parallel import accelerator
from llmrl.recipe import read

made = read(sys.argv[1])
processes = accelerator(made.train)
models = Learners(made, processes, frozenset())
folder = module.Checkpoints(Path(sys.argv[2]), processes, 2)
state = {"source": {"position": 3}}
folder.save(1, state)

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "rename":
    Path.rename = kill
else:
    module.checksums.flushed = kill
folder.save(2, state)
"""


@pytest.mark.parametrize("moment", ["sync", "rename"])
def test_a_kill_during_a_save_leaves_the_last_one_in_force(
    saved: Saved, tiny_model_dir: Path, tmp_path: Path, moment: str
) -> None:
    import yaml

    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe(tiny_model_dir, tmp_path).as_dict()))
    arguments = [str(tmp_path / "mine.yaml"), str(tmp_path / "checkpoints"), moment]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert names(tmp_path) == ["step-000001", "step-000002.partial"]
    checkpoints = saved[0](2)
    latest = checkpoints.latest()
    assert latest == tmp_path / "checkpoints" / "step-000001"
    assert checkpoints.restore(latest) == (1, {"source": {"position": 3}})
    checkpoints.save(2, STATE)
    assert names(tmp_path) == ["step-000001", "step-000002"], "what the kill left is swept up"


@pytest.mark.parametrize("broken", ["model.safetensors", "optimizer.bin", "random_states_0.pkl", *FILES])
@pytest.mark.parametrize("how", ["cut", "gone", "flipped"])
def test_a_broken_checkpoint_is_named_with_the_way_on(saved: Saved, broken: str, how: str) -> None:
    keep, learners = saved
    good, path = keep(2).save(1, STATE), keep(2).save(2, STATE)
    content = bytearray((path / broken).read_bytes())
    if how == "gone":
        (path / broken).unlink()
    elif how == "cut":
        (path / broken).write_bytes(content[:40])
    else:
        content[len(content) // 2] ^= 1
        (path / broken).write_bytes(content)
    with torch.no_grad():
        for parameter in learners.policy.net.parameters():
            parameter.fill_(0.5)
    found = {"gone": "missing", "cut": "has 40 bytes, ", "flipped": "its bytes have changed since it was written"}
    with pytest.raises(CheckpointError) as refused:
        keep(2).restore(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: damaged: {broken}: {found[how]}"), message
    assert "Nothing was loaded. The newest without damage is step-000001. To go on from it: Run(" in message
    assert f"resume=Path('{good}')" in message
    assert all((parameter == 0.5).all() for parameter in learners.policy.net.parameters()), "nothing was loaded indeed"
    assert keep(2).restore(good) == (1, STATE)
    assert names(good.parents[1]) == ["step-000001", "step-000002.replaced"]
    keep(2).save(2, STATE)
    assert names(good.parents[1]) == ["step-000001", "step-000002"]


def test_where_every_checkpoint_is_damaged(saved: Saved, tmp_path: Path) -> None:
    checkpoints = saved[0](2)
    for step in (1, 2):
        (checkpoints.save(step, STATE) / "optimizer.bin").unlink()
    anew = f"no other without damage. To begin anew: train.run_name={tmp_path.name}-anew"
    with pytest.raises(CheckpointError, match=anew):
        checkpoints.restore(tmp_path / "checkpoints" / "step-000002")


def test_files_that_torch_reads_but_that_are_wrong(saved: Saved) -> None:
    """They load without an error, so that only checksums tell."""
    checkpoints = saved[0](2)
    path, other = checkpoints.save(1, STATE), checkpoints.save(2, {**STATE, "updates": {"in_a_row": 1}})
    (path / "run.json").write_bytes((other / "run.json").read_bytes())
    (path / "custom_checkpoint_0.pkl").touch()
    with pytest.raises(
        CheckpointError, match=r"damaged: run.json: its bytes .*; custom_checkpoint_0.pkl: was not written by the run"
    ):
        checkpoints.restore(path)


def test_a_checkpoint_is_chosen_by_name(saved: Saved, tmp_path: Path) -> None:
    checkpoints = saved[0](2)
    path = checkpoints.save(1, STATE)
    assert checkpoints.named("step-000001") == checkpoints.named(path) == path
    for name in ("step-000002", tmp_path / "other" / "step-000001"):
        with pytest.raises(CheckpointError, match=rf"{name}: no checkpoint of .*/checkpoints; there: step-000001"):
            checkpoints.named(name)


def changed(checkpoint: Path, **values: Any) -> None:
    """Other values at the top of what a checkpoint holds; None leaves one out."""
    file = checkpoint / "run.json"
    state = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in state.items() if value is not None}))
    checksums.write(checkpoint, checksums.flushed(checkpoint, checksums.names(checkpoint)))


@pytest.mark.parametrize(
    ("version", "writer"),
    [(None, r"llmrl 0\.1\.0"), (1, r"another llmrl \(layout 1\)"), (99, r"another llmrl \(layout 99")],
)
def test_a_checkpoint_of_another_version_is_refused(saved: Saved, version: int | None, writer: str) -> None:
    checkpoints = saved[0](2)
    path = checkpoints.save(1, STATE)
    changed(path, version=version)
    if version in (None, 1):
        (path / checksums.FILE).unlink()
    if version is None:
        (path / "run.safetensors").unlink()  # 0.1.0 had none
    with pytest.raises(
        CheckpointError,
        match=rf"step-000001: written by {writer}.*reads layout 3; resume it with .* or choose another train.run_name",
    ):
        checkpoints.restore(path)


def test_another_number_of_processes_is_refused(saved: Saved) -> None:
    checkpoints = saved[0](2)
    path = checkpoints.save(1, STATE)
    changed(path, processes=4)
    with pytest.raises(CheckpointError, match=r"step-000001: written by 4 processes, this run has 1; launch as many"):
        checkpoints.restore(path)


def test_a_folder_in_the_way(saved: Saved, tmp_path: Path) -> None:
    keep, learners = saved
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(
        CheckpointError, match=r"step-000001: the checkpoint was not written: .*last complete one is none"
    ):
        keep(2).save(1, STATE)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CheckpointError, match=r"taken/final: the model was not written: "):
        export({"": learners}, None, tmp_path / "taken" / "final")


# A run's folder


def test_a_folder_in_use_is_resumed_or_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path)
    with Run(made, name="one") as run:
        train(run)
    folder = tmp_path / "one"
    assert names(folder) == ["step-000001", "step-000002"]

    with pytest.raises(
        CheckpointError, match=r"one: already holds a run \(.*\); add --resume .* choose another train.run_name"
    ):
        Run(made, name="one")

    other = replace(
        made,
        train=replace(made.train, learning_rate=0.5, max_steps=3),
        data=build("data", {"name": "arithmetic", "high": 4}),
        algorithm=build("algorithm", {"name": "grpo", "beta": 0.1}),
    )
    with pytest.raises(RecipeError, match=r"changed: algorithm.beta, data.high, train.learning_rate. Choose another"):
        Run(other, resume=True, name="one")

    longer = replace(made, train=replace(made.train, max_steps=3))
    with Run(longer, resume=True, name="one") as run:
        assert run.first_step == 2, "a longer run is the same run"
        train(run)
    lines = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == [0, 1, 2]
    assert names(folder) == ["step-000002", "step-000003"]


def test_going_on_from_an_older_checkpoint(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, max_steps=3, save_total_limit=3)
    with Run(made, name="one") as run:
        train(run)
    folder = tmp_path / "one"
    whole = load_file(folder / "final" / "model.safetensors")
    with Run(made, resume=folder / "checkpoints" / "step-000001", name="one") as run:
        assert run.first_step == 1
        assert names(folder) == ["step-000001", "step-000002.replaced", "step-000003.replaced"]
        train(run)
    lines = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == [0, 1, 2]
    assert names(folder) == ["step-000001", "step-000002", "step-000003"]
    again = load_file(folder / "final" / "model.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_an_exported_model_that_was_damaged(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, max_steps=1)
    with Run(made, name="one") as run:
        train(run)
    final = tmp_path / "one" / "final"
    (final / "README.md").write_text("mine")
    load_tokenizer(final)
    weights = bytearray((final / "model.safetensors").read_bytes())
    weights[-100] ^= 16
    (final / "model.safetensors").write_bytes(weights)
    with pytest.raises(
        CheckpointError, match=r"final: damaged: model.safetensors: its bytes have changed.*rm .*final/checksums.json"
    ):
        Run(recipe(final, tmp_path), name="two")
    with Run(made, resume=True, name="one") as run:
        train(run)
    load_tokenizer(final)


def test_weights_that_are_not_finite_are_blamed_and_not_the_sync(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = tmp_path / "nan"
    shutil.copytree(tiny_model_dir, model)
    weights = load_file(model / "model.safetensors")
    broken = next(name for name in weights if "layers.1.mlp" in name)
    weights[broken].view(-1)[3] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with (
        pytest.raises(
            TrainingError, match=rf"1 of its \d+ weights hold NaN or infinity: {broken}. The weight sync is not"
        ),
        Run(recipe(model, tmp_path), name="one") as run,
    ):
        train(run)


def test_a_run_that_never_saved_begins_again(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, max_steps=1, save_steps=0)
    with Run(made, name="one") as run:
        run.start()
        run.source.next(0)
        run.logs.metrics(0, {})
    with pytest.raises(CheckpointError, match="already holds a run"):
        Run(made, name="one")
    with Run(made, resume=True, name="one") as run:
        assert run.first_step == 0
        assert run.source.state() == {"scheduler": {"drawn": [], "pending": []}, "sampler": {"position": 0}}
        assert (run.folder / "metrics.jsonl").read_text() == ""


def test_a_run_that_never_took_a_step_leaves_its_folder_free(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: RolloutSource, step: int) -> Any:
        raise DataError(f"nothing to play in step {step}")

    short = recipe(tiny_model_dir, tmp_path)
    short = replace(short, rollout=replace(short.rollout, max_prompt_length=16))
    monkeypatch.setattr(RolloutSource, "next", broken)
    with pytest.raises(DataError, match="nothing to play in step 0"), Run(short, name="one") as run:
        train(run)
    with Run(recipe(tiny_model_dir, tmp_path), name="one") as run:
        assert "max_prompt_length: 32" in (run.folder / "recipe.yaml").read_text(), "mended, and started again"
