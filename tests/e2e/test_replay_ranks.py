"""A step of two processes again: on two to the last bit, on one but for rounding, with all tokens' credit on both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Command

RECIPE = """
model: {{policy: {model}}}
data: {{name: arithmetic, high: 9}}
reward: {{name: "tests.integration.test_replaying:letters"}}
engine: {{name: hf}}
algorithm: {{name: grpo, beta: 0.1}}
rollout: {{num_generations: 4, prompts_per_step: 2, max_completion_length: 4, max_prompt_length: 32, reward_workers: 1}}
train: {{max_steps: 1, learning_rate: 1e-3, output_dir: {out}, run_name: two, report_to: none, save_steps: 1}}
"""


def test_a_step_of_two_processes(llmrl: Callable[..., Command], tiny_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=tiny_model_dir, out=tmp_path / "runs"))
    llmrl("train", str(tmp_path / "recipe.yaml"), launch="ddp").wait()
    files = {launch: tmp_path / f"{launch}.json" for launch in ("ddp", None)}
    asked = ["replay", str(tmp_path / "runs" / "two"), "--step", "0", "--algorithm", "rloo", "--json"]
    told = llmrl(*asked, str(files["ddp"]), launch="ddp").wait()
    assert told.count("the same episodes") == 1
    llmrl(*asked, str(files[None])).process.wait(120)  # exit code 1: it differs, by rounding
    two, one = (json.loads(file.read_text()) for file in files.values())
    assert two["same"]
    assert two["weights"]["largest"] == 0.0
    assert one["weights"]["largest"] < 1e-4
    assert any("2 processes, this has 1" in note for note in one["notes"])
    for ours, alone in zip(two["episodes"], one["episodes"], strict=True):
        for label, credit in alone["credit"].items():
            assert any(credit)
            assert ours["credit"][label] == pytest.approx(credit, abs=1e-5)
