"""The demo, as a stranger types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PNG = b"\x89PNG"


def results(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def test_a_short_one_leaves_all_its_files_and_can_be_repeated(llmrl: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "demo"
    arguments = ("demo", "--seed", "1", "--quiet", "--target", "0", "--out", str(out))
    for steps in (1, 2):
        said = llmrl(*arguments, f"train.max_steps={steps}").wait()
        found = results(out)
        assert found["seed"] == 1
        assert found["sft_steps"] == 5  # where accuracy is looked at first
        for when in ("before", "after"):
            assert 0.0 <= found[when]["low"] <= found[when]["accuracy"] <= found[when]["high"] <= 1.0
        assert set(found["seconds"]) == {"build", "sft", "before", "grpo", "after", "total"}
        assert len(found["samples"]) == 3
        assert len((out / "metrics.jsonl").read_text().splitlines()) == steps
        assert (out / "curves.png").read_bytes().startswith(PNG)
        assert f"llmrl eval {out / 'final'} --benchmarks arithmetic" in said
        assert "Traceback" not in said


def test_a_folder_of_somebody_else_is_left_alone(llmrl: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    command = llmrl("demo", "--quiet", "--out", str(tmp_path))
    with pytest.raises(AssertionError, match="holds files that no demo has made; choose another folder with --out"):
        command.wait()
    assert command.process.returncode == 1
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_reinforcement_learning_makes_the_model_better(llmrl: Callable[..., Any], tmp_path: Path, seed: int) -> None:
    """At least 20 points on held-out problems, and intervals that do not overlap."""
    llmrl("demo", "--seed", str(seed), "--quiet", "--out", str(tmp_path / "demo")).wait()
    found = results(tmp_path / "demo")
    before, after = found["before"], found["after"]
    assert 0.3 <= before["accuracy"] <= 0.6
    assert after["accuracy"] - before["accuracy"] >= 0.2
    assert before["high"] < after["low"]
