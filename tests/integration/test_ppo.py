"""PPO in a real run: policy, reference and critic of a small model, on one process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from llmrl.algorithms.ppo import PPO
from llmrl.recipe import Recipe, parse
from llmrl.train.loop import train
from llmrl.train.run import Run

OPTIONS: dict[str, Any] = {
    "kl_coef": 0.1,
    "kl_target": 1e-9,  # so that whatever is seen moves kl_coef
    "kl_horizon": 10,
    "critic_warmup": 1,
    "num_ppo_epochs": 2,
    "minibatches": 2,
    "bootstrap_truncated": True,
    "entropy_coef": 0.01,
}


def recipe(model: Path, out: Path, head: str = "hl_gauss", **options: Any) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 3},
            "reward": {"name": "numeric"},
            "algorithm": {"name": "ppo", **OPTIONS, **options},
            "critic": {"learning_rate": 1e-3, "head": {"name": head}},
            "engine": {"name": "hf"},
            "rollout": {
                "num_generations": 4,
                "prompts_per_step": 2,
                "max_completion_length": 4,
                "max_prompt_length": 32,
                "reward_workers": 1,
            },
            "train": {
                "max_steps": 3,
                "save_steps": 1,
                "output_dir": str(out),
                "report_to": "none",
                "learning_rate": 1e-3,
            },
        }
    )


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_warms_its_critic_then_learns_and_resumes_exactly(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path)
    with Run(made, name="whole") as run:
        train(run)
        coefficient = cast(PPO, run.algorithm).kl_coef
    first, second, third = lines(tmp_path / "whole")
    assert first["objective/kl"] == pytest.approx(0.0, abs=1e-5), "nothing has moved yet"
    assert "loss/policy_avg" not in first, "in the warm-up only the critic learns"
    assert first["critic/loss"] > 0
    assert first["kl_coef"] == second["kl_coef"] == 0.1, "the warm-up leaves it"
    assert second["policy/approxkl_avg"] > 0
    assert second["objective/episodes"] == 8.0
    assert third["kl_coef"] != 0.1
    assert abs(third["objective/kl"]) > 1e-6
    assert coefficient != third["kl_coef"]

    short = replace(made, train=replace(made.train, max_steps=2))
    with Run(short, name="halves") as run:
        train(run)
    with Run(made, resume=True, name="halves") as run:
        assert cast(PPO, run.algorithm).kl_coef == third["kl_coef"], "the controller goes on where it was"
        train(run)
    timed = ("time/", "perf/", "step_time", "sync/seconds", "reward_latency/")
    resumed = lines(tmp_path / "halves")[2]
    whole, halves = ({k: v for k, v in line.items() if not k.startswith(timed)} for line in (third, resumed))
    assert whole == halves


def test_a_bounded_critic_must_be_scalar(tiny_model_dir: Path, tmp_path: Path) -> None:
    from llmrl.errors import RecipeError

    with (
        Run(recipe(tiny_model_dir, tmp_path, cliprange_value=0.2), name="wrong") as run,
        pytest.raises(RecipeError, match="cliprange_value"),
    ):
        train(run)
    for name, bound in (("tight", 1e-7), ("wide", 1e3)):
        with Run(recipe(tiny_model_dir, tmp_path, "scalar", cliprange_value=bound), name=name) as run:
            train(run)
    # The first of the step's four updates finds every value where it was: a quarter is within any bound
    assert 0 < lines(tmp_path / "tight")[2]["critic/clip_ratio"] <= 0.75
    assert lines(tmp_path / "wide")[2]["critic/clip_ratio"] == 0
