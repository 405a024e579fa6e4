from __future__ import annotations

import re

import pytest

from llmrl.run_folder.progress import Progress, describe


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
