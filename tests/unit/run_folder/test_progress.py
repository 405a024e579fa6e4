from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys

import pytest

from llmrl.run_folder.progress import Progress, describe, one_episode
from llmrl.types import Completion, Problem, Score, Trajectory, Turn


def test_plain_lines_where_nobody_watches_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(5, title="train") as progress:
        progress.step(0, {"reward": 0.5, "accuracy": 0.25, "perf/tokens_per_sec": 1234.4, "loss": 9.0}, [])
        progress.step(1, {"reward": 0.75}, [])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "train 1/5  reward 0.500  accuracy 0.250  tokens/s 1234"
    assert re.fullmatch(r"train 2/5  reward 0\.750  left \d+s", second)


def test_a_resumed_run_counts_on_and_times_only_its_own_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr("llmrl.run_folder.progress.time.perf_counter", lambda: next(clock))
    with Progress(50, quiet=True) as progress:
        progress.step(40, {}, [])
        progress.step(41, {}, [])  # 10 s a step, 8 to go
    assert capsys.readouterr().out.splitlines() == ["train 41/50  ", "train 42/50    left 80s"]


def test_only_the_numbers_people_watch() -> None:
    assert describe({"loss": 1.0}) == ""
    assert describe({"accuracy": 1.0, "reward": -0.5}) == "reward -0.500  accuracy 1.000"


def test_evaluations_length_entropy_and_one_answer_are_among_them(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"entropy": 0.5, "completions/mean_length": 12.0, "eval/gsm8k/avg@4": 0.25, "eval/gsm8k/avg@4/low": 0.1}
    with Progress(5) as progress:
        progress.step(0, metrics, [])
    assert capsys.readouterr().out == "train 1/5  length 12  entropy 0.50  eval gsm8k avg@4 0.250\n"
    completion = Completion(token_ids=[1], logprobs=[0.0], finish="stop", version=0)
    turns = [Turn(prompt_ids=[1], completion=completion, text="so it is\n4" + " 5" * 500)]
    problem = Problem(id="one", messages=[], answer="")
    shown = one_episode([[Trajectory(problem=problem, turns=turns, status="done", score=Score(1.0))]])
    assert shown.startswith("[reward 1.000] so it is 4 5")
    assert len(shown) < 230
    assert one_episode([]) == ""


def test_a_terminal_shows_the_folder_and_an_answer() -> None:
    """The real bar, on a pseudo-terminal."""
    code = """
from llmrl.run_folder.progress import Progress
with Progress(2, folder="runs/mine") as progress:
    progress.step(0, {"reward": 0.5, "eval/gsm8k/avg@1": 0.25}, [])
    progress.step(1, {"reward": 0.75}, [])
"""
    own, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=os.environ | {"COLUMNS": "200"}) as process:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(own, 4096):
                text += piece
        assert process.wait(60) == 0
    os.close(own)
    assert b"run: runs/mine" in text
    assert b"2/2" in text
    assert b"reward 0.750  eval gsm8k avg@1 0.250" in text
