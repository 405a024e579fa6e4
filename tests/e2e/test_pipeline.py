"""A pipeline of five stages on two processes, killed again and again: the same models as one that ran through."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests import pipelines

KILLS = 10


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_makes_the_same(
    tiny_model_dir: Path, tmp_path: Path, llmrl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = str(tmp_path / "killed")
    recipe, whole = pipelines.write(tmp_path / "whole", pipelines.FIVE, tiny_model_dir)
    began = time.monotonic()
    llmrl("train", str(recipe), "--quiet", launch="ddp").wait()
    seconds = time.monotonic() - began
    expected = pipelines.made(whole)
    assert len(expected) == 6, "models of four stages, rollouts of two"

    monkeypatch.setenv(pipelines.MARK, mark)
    recipe, killed = pipelines.write(Path(mark), pipelines.FIVE, tiny_model_dir)
    draw, moments, kills = Random(0), [], 0
    while kills < KILLS:
        command = llmrl("train", str(recipe), "--quiet", launch="ddp")
        until = time.monotonic() + draw.uniform(0.05, 0.35) * seconds
        while time.monotonic() < until and command.process.poll() is None:
            time.sleep(0.01)
        assert command.process.poll() in (None, 0), command.log.read_text()[-4000:]
        done = pipelines.finished(killed)
        moments.append(done)
        command.kill()
        pipelines.kill_all(mark)
        kills += 1
        if len(done) == 5:  # all is made: begin anew elsewhere, so that every kill meets a stage
            assert pipelines.made(killed) == expected
            killed.rename(killed.with_name(f"pipeline-{kills}"))
    print(f"finished stages at the kills: {moments}")
    llmrl("train", str(recipe), "--quiet", launch="ddp").wait()
    assert pipelines.finished(killed) == ["check", "clone", "collect", "judge", "sft"]
    assert pipelines.made(killed) == expected
