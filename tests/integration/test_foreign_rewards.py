"""Rewards written for other toolkits, and a mix with conditions and channels, in a real run on rows in verl's form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.recipe import parse
from llmrl.train.loop import train
from llmrl.train.run import Run

ELSEWHERE = Path(__file__).parents[1] / "unit" / "scoring"
ROW = {
    "data_source": "sums",
    "prompt": [{"role": "user", "content": "2+2?"}],
    "reward_model": {"style": "rule", "ground_truth": 4},
    "extra_info": {"index": 7},
    "task": "sums",
    "level": 3,
}
PARTS = {
    "length": {"name": "verl", "function": "written_elsewhere:waits", "weight": 0.01},
    "answer": {"name": "verl", "function": "written_elsewhere:detailed", "weight": 1.0},
    "rubric": {"name": "verifiers", "rubric": "written_elsewhere:older", "weight": 0.1, "if": "answer >= 1"},
    "label": {"name": "openrlhf", "function": "written_elsewhere:with_logs", "weight": 0.0},
    "short": {"name": "trl", "function": "written_elsewhere:brevity", "weight": 0.5, "channel": "token_rewards"},
    "repetition": {"weight": 1.0, "window": 2},
}


def test_a_run_learns_from_rewards_of_four_toolkits(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ELSEWHERE)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({**ROW, "id": f"row{i}"}) + "\n" for i in range(4)))
    made = parse(
        {
            "model": {"policy": str(tiny_model_dir)},
            "data": {"name": "jsonl", "path": str(data)},
            "reward": {"name": "mix", "parts": PARTS},
            "algorithm": {
                "name": "ppo",
                "lam": 1,
                "lam_critic": 1,
                "discounts": {"reward": 1.0, "token_rewards": 0.9},
            },
            "engine": {"name": "hf"},
            "rollout": {
                "num_generations": 4,
                "prompts_per_step": 2,
                "max_completion_length": 8,
                "max_prompt_length": 32,
                "reward_workers": 1,
                "reward_timeout_s": 30.0,
            },
            "train": {"max_steps": 2, "save_steps": 0, "output_dir": str(tmp_path / "run"), "report_to": "none"},
        }
    )
    with Run(made) as run:
        train(run)
    steps = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 2
    for step in steps:
        assert step["rewards/answer/mean"] == -1.0, "a model of random weights"
        assert step["rewards/answer/turns/mean"] == 2.0
        assert step["rewards/rubric/brief/mean"] == 1.0
        assert (step["rewards/rubric/mean"], step["rewards/rubric/gated/mean"]) == (2.0, 0.0)
        assert step["rewards/short/mean"] == 1.0
        assert step["reward"] == pytest.approx(0.01 * step["rewards/length/mean"] - 1.0)
        assert step["verdict/error_frac"] == 0.0
        assert {f"reward_latency/{part}/p95" for part in PARTS} <= set(step)
