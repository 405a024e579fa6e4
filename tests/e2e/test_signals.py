"""Signals to the real command line: exit codes, messages, and runs that go on where they were."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

RECIPE = """
model: {{policy: {model}}}
data: {{name: arithmetic, high: 9}}
reward: {{name: format, pattern: '.*[a-z].*'}}
algorithm: {{name: grpo, beta: 0.01, minibatches: 2}}
engine: {{name: hf}}
rollout: {{num_generations: 4, prompts_per_step: 4, max_completion_length: 6, max_prompt_length: 32}}
train: {{max_steps: {steps}, learning_rate: 1e-3, save_steps: 100, seed: 5, output_dir: {out}, report_to: none}}
"""


def begun(llmrl: Callable[..., Any], recipe: Path, folder: Path, launch: str | None = None, steps: int = 3) -> Any:
    """A run that has taken some steps."""
    command = llmrl("train", str(recipe), "--quiet", launch=launch)
    log = folder / "metrics.jsonl"
    command.wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= steps)
    return command


def processes(command: Any) -> dict[int, int]:
    """Processes that train, by their rank."""
    ranks = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            variables = dict(each.partition(b"=")[::2] for each in (place / "environ").read_bytes().split(b"\0"))
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == command.process.pid and b"train" in words and b"RANK" in variables:
            ranks[int(variables[b"RANK"])] = int(place.name)
    return ranks


def write(recipe: Path, model: Path, out: Path, steps: int) -> Path:
    recipe.write_text(RECIPE.format(model=model, out=out, steps=steps))
    return out / recipe.stem


@pytest.mark.parametrize(
    "number", [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGTERM, signal.SIGHUP))]
)
def test_a_signal_saves_and_says_so(
    number: signal.Signals, tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any]
) -> None:
    folder = write(tmp_path / "run.yaml", tiny_model_dir, tmp_path, 1000)
    command = begun(llmrl, tmp_path / "run.yaml", folder)
    asked = time.monotonic()
    for _ in range(1 if number == signal.SIGINT else 3):  # asking again changes nothing; ctrl-C again ends at once
        os.kill(command.process.pid, number)
    assert command.process.wait(60) == 128 + number
    assert time.monotonic() - asked < 60
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == f"stopped: {number.name}"
    assert (folder / "checkpoints" / f"step-{manifest['steps']:06d}").is_dir()
    text = command.log.read_text()
    assert (
        f"llmrl: stopped by {number.name}: saved after {manifest['steps']} steps; go on with: python -m llmrl train "
        f"{tmp_path}/run.yaml --quiet --resume" in text
    )
    assert ("ctrl-C: saving the run, within 120 s" in text) == (number == signal.SIGINT)
    assert "Traceback" not in text


@pytest.mark.slow
def test_it_ends_in_time_where_it_cannot_be_saved(
    tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any]
) -> None:
    folder = write(tmp_path / "run.yaml", tiny_model_dir, tmp_path, 1000)
    with (tmp_path / "run.yaml").open("a") as file:
        file.write("eval: {every: 4, benchmarks: [arithmetic], samples: 4000}\n")  # which takes long, and is finished
    text = (tmp_path / "run.yaml").read_text().replace("save_steps: 100", "save_steps: 100, stop_grace_s: 3")
    (tmp_path / "run.yaml").write_text(text)
    command = llmrl("train", str(tmp_path / "run.yaml"), "--quiet")
    command.wait_for(lambda: (folder / "eval" / "step-000004" / "arithmetic.jsonl").exists())
    asked = time.monotonic()
    os.kill(command.process.pid, signal.SIGTERM)
    assert command.process.wait(60) == 143
    assert 2.5 < time.monotonic() - asked < 30
    assert json.loads((folder / "manifest.json").read_text())["status"] == "stopped: SIGTERM"
    assert "did not end within train.stop_grace_s (3 s), and was not saved" in command.log.read_text()


@pytest.mark.parametrize(
    "pause", [pytest.param(0.0, marks=pytest.mark.slow), 0.1, pytest.param(0.5, marks=pytest.mark.slow)]
)
def test_a_second_ctrl_c_ends_at_once_and_quietly(
    pause: float, tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any]
) -> None:
    folder = write(tmp_path / "run.yaml", tiny_model_dir, tmp_path, 1000)
    command = begun(llmrl, tmp_path / "run.yaml", folder)
    os.kill(command.process.pid, signal.SIGINT)
    time.sleep(0.02 + pause)
    os.kill(command.process.pid, signal.SIGINT)
    asked = time.monotonic()
    assert command.process.wait(60) in (130, -signal.SIGINT)  # a shell says 130 of both
    assert time.monotonic() - asked < 10
    text = command.log.read_text()
    assert not any(word in text for word in ("Traceback", "terminate called", "Aborted", "Fatal"))


@pytest.mark.slow
def test_two_processes_agree_to_stop_and_go_on_exactly(
    tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any]
) -> None:
    whole = write(tmp_path / "whole.yaml", tiny_model_dir, tmp_path, 8)
    llmrl("train", str(tmp_path / "whole.yaml"), "--quiet", launch="zero2").wait()
    folder = write(tmp_path / "stopped.yaml", tiny_model_dir, tmp_path, 8)
    command = begun(llmrl, tmp_path / "stopped.yaml", folder, "zero2")
    os.kill(processes(command)[1], signal.SIGTERM)  # one of them alone: the other has to be told
    command.process.wait(120)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "stopped: SIGTERM"
    assert "llmrl: stopped by SIGTERM: saved after" in command.log.read_text()
    llmrl("train", str(tmp_path / "stopped.yaml"), "--quiet", "--resume", launch="zero2").wait()
    left, right = (load_file(each / "final" / "model.safetensors") for each in (whole, folder))
    assert all(bool((left[name] == right[name]).all()) for name in left)
    assert (whole / "rollouts.jsonl").read_bytes() == (folder / "rollouts.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_process_is_one_message(
    rank: int, tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any]
) -> None:
    folder = write(tmp_path / "run.yaml", tiny_model_dir, tmp_path, 1000)
    command = begun(llmrl, tmp_path / "run.yaml", folder, "zero2")
    os.kill(processes(command)[rank], signal.SIGKILL)
    assert command.process.wait(120) != 0
    ours, _, launcher = command.log.read_text().partition("ChildFailedError")
    assert "Traceback" not in ours.partition("torch.distributed.elastic")[0].replace("Traceback", "", 1)
    assert ours.count("llmrl: a process of this run was lost") <= 1
    assert "SIGKILL" in launcher
