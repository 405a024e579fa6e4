"""Ctrl-C in the midst of the demo's reinforcement learning: a checkpoint, and the command that goes on."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = ["demo", "--quiet", "--target", "0.02", "engine.name=hf", "train.max_steps=60", "eval.limit=8"]


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    metrics = tmp_path / "runs" / "demo" / "metrics.jsonl"
    with subprocess.Popen(
        [sys.executable, "-m", "llmrl", *DEMO],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as child:
        end = time.monotonic() + 400
        while not (metrics.exists() and metrics.read_text().count("\n") > 2) and time.monotonic() < end:
            assert child.poll() is None
            time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        output = child.communicate(timeout=150)[0]
    assert child.returncode == 130, output
    told = output.splitlines()[-1]
    assert "stopped by SIGINT: saved after" in told
    command = shlex.split(told.partition("go on with: ")[2])
    assert command[1:] == ["train", "runs/demo/recipe.yaml", "--resume"]
    go_on = [sys.executable, "-m", "llmrl", *command[1:], "train.max_steps=12", "--quiet"]
    done = subprocess.run(go_on, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(12))
