"""A real run whose reward server is killed and started again: no score is lost, and none differs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file

from llmrl.recipe import Recipe, parse
from llmrl.train.loop import train
from llmrl.train.run import Run

ROOT = Path(__file__).parents[2]
# A reward that takes its time, so that the kill finds it at work; it gives every kind of number that a score has.
REWARD = """
import hashlib, time
from dataclasses import dataclass
from pathlib import Path
from llmrl.types import Problem, Score

@dataclass(frozen=True)
class Slow:
    log: str = ""

    def __call__(self, problem: Problem, text: str) -> Score:
        if self.log:
            with Path(self.log).open("a") as file:
                file.write("begun\\n")
        time.sleep(0.05)
        value = int.from_bytes(hashlib.blake2b(f"{problem.id}{text}".encode(), digest_size=6).digest()) / 2**48
        return Score(value, "correct" if value > 0.5 else "wrong", {"third": value / 3}, reason="hashed")
"""


Start = Callable[..., Any]  # of the fixture `serve`


def recipe(model: Path, out: Path, reward: Mapping[str, Any]) -> Recipe:
    rollout = {"num_generations": 4, "prompts_per_step": 2, "max_completion_length": 3, "max_prompt_length": 32}
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 9},
            "reward": reward,
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "rollout": {**rollout, "reward_workers": 1, "max_error_share": 0.0},
            "train": {
                "max_steps": 5,
                "save_steps": 0,
                "learning_rate": 1e-3,
                "output_dir": str(out),
                "report_to": "none",
            },
        }
    )


def run(made: Recipe, name: str) -> Path:
    with Run(made, name=name) as run:
        train(run)
        return run.folder


def episodes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def steps(folder: Path) -> list[dict[str, float]]:
    """The metrics of each step, without what only a clock decides."""
    left = ("time/", "reward_latency/", "perf/tokens_per_sec", "step_time", "sync/seconds")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(left)} for line in lines]


def test_a_server_that_is_killed_and_started_again_changes_nothing(
    tiny_model_dir: Path, tmp_path: Path, serve: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_reward.py").write_text(REWARD)
    monkeypatch.syspath_prepend(str(tmp_path))
    begun = tmp_path / "begun"
    parts = {"slow_reward:Slow": {"weight": 1.0, "log": str(begun)}, "repetition": 0.5}
    server = serve(json.dumps({"name": "mix", "parts": parts}), "--workers", "1")
    assert server.ready()["status"] == "ready"
    made = recipe(tiny_model_dir, tmp_path / "out", {"name": "remote", "url": server.url, "pause_s": 0.1})

    whole = run(made, "whole")
    begun.unlink()

    def kill_and_start() -> None:
        until = time.monotonic() + 100
        while time.monotonic() < until and not (begun.exists() and len(begun.read_text().splitlines()) >= 18):
            time.sleep(0.002)
        server.kill()  # in the third step, in the midst of a group
        time.sleep(0.5)
        server.start()

    first = server.process.pid
    killer = threading.Thread(target=kill_and_start)
    killer.start()
    killed = run(made, "killed")
    killer.join()

    assert server.process.pid != first
    assert len(begun.read_text().splitlines()) > 40, "what was being scored at the kill was scored again"
    assert len(episodes(killed)) == 40
    assert all(one["reward"] is not None for one in episodes(killed))
    assert episodes(killed) == episodes(whole)
    assert steps(killed) == steps(whole)
    assert steps(whole)[0]["frac_reward_zero_std"] == 0.0
    expected, found = (load_file(folder / "final" / "model.safetensors") for folder in (whole, killed))
    assert all((expected[name] == found[name]).all() for name in expected)

    here = recipe(tiny_model_dir, tmp_path / "out", {"name": "mix", "parts": parts})
    assert episodes(run(here, "here")) == episodes(whole), "nor does it matter in which process a reward lives"


def test_ctrl_c_finishes_what_is_being_scored(tmp_path: Path, serve: Start) -> None:
    (tmp_path / "slow_reward.py").write_text(REWARD.replace("0.05", "1.0"))
    begun = tmp_path / "begun"
    spec = json.dumps({"name": "slow_reward:Slow", "log": str(begun)})
    server = serve(spec, "--workers", "1", "--api-key", "secret")
    assert server.ready()["reward"] == "slow_reward:Slow"
    body = {"problem": {"id": "1", "messages": []}, "texts": ["a"]}
    assert httpx.post(f"{server.url}/score", json=body, trust_env=False).status_code == 401
    replies: list[httpx.Response] = []

    def ask() -> None:
        headers = {"Authorization": "Bearer secret"}
        replies.append(httpx.post(f"{server.url}/score", json=body, headers=headers, timeout=60.0, trust_env=False))

    asking = threading.Thread(target=ask)
    asking.start()
    until = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.005)
    server.process.send_signal(signal.SIGINT)
    asking.join()
    assert [score["verdict"] is not None for score in replies[0].json()["scores"]] == [True]
    assert server.process.wait(30) == 0
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("numerc", "unknown reward 'numerc'; did you mean 'numeric'?"),
        ("{name: numeric, tolerence: 1}", "unknown key; did you mean 'tolerance'?"),
        ("none.yaml", "none.yaml: cannot be read"),
    ],
)
def test_what_is_no_reward_is_said_at_once(spec: str, words: str) -> None:
    command = [sys.executable, "-m", "llmrl", "serve-reward", spec, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
