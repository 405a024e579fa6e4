"""Playing ahead while a real policy learns, with Transformers as an engine that has weights of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.recipe import Recipe, parse
from llmrl.train.loop import train
from llmrl.train.run import Run


def recipe(model: Path, out: Path, source: Mapping[str, Any], **train_options: Any) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 9},
            "reward": {"name": "format", "pattern": "(?s).*[a-zA-Z0-9].*"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "source": source,
            "rollout": {
                "num_generations": 4,
                "prompts_per_step": 2,
                "max_completion_length": 2,
                "max_prompt_length": 32,
                "reward_workers": 1,
            },
            "train": {
                "max_steps": 6,
                "save_steps": 3,
                "learning_rate": 1e-3,
                "output_dir": str(out),
                "report_to": "none",
                **train_options,
            },
        }
    )


def steps(folder: Path) -> list[dict[str, float]]:
    """The metrics of each step, without what only a clock decides and what only one source says."""
    left = ("time/", "reward_latency/", "perf/tokens_per_sec", "step_time", "sync/seconds")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(left)} for line in lines]


def weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_file(folder / "final" / "model.safetensors")
    return found


def run(made: Recipe, name: str, resume: bool = False) -> Path:
    with Run(made, name=name, resume=resume) as run:
        train(run)
        return run.folder


def test_without_staleness_training_is_that_of_the_synchronous_source(tiny_model_dir: Path, tmp_path: Path) -> None:
    sync = run(recipe(tiny_model_dir, tmp_path, {"name": "online"}), "sync")
    same = run(recipe(tiny_model_dir, tmp_path, {"name": "asynchronous", "max_staleness": 0}), "same")
    expected, found = steps(sync), steps(same)
    own = ("staleness/dropped", "staleness/lag_")
    assert [{k: v for k, v in step.items() if not k.startswith(own)} for step in found] == expected
    assert all(step["staleness/max"] == 0 for step in found if "staleness/max" in step)
    assert all((weights(sync)[name] == weights(same)[name]).all() for name in weights(sync))
    start = load_file(tiny_model_dir / "model.safetensors")
    assert any((start[name] != weights(same)[name]).any() for name in start if name in weights(same)), "it learned"


def test_a_run_that_plays_ahead_resumes_exactly(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, {"name": "asynchronous", "max_staleness": 1})
    whole = run(made, "whole")
    assert [step["staleness/lag_1/frac"] for step in steps(whole)[1:]] == [1.0] * 5
    assert all(step["staleness/dropped"] == 0 for step in steps(whole))
    ratios = [step["sampling/importance_sampling_ratio/mean"] for step in steps(whole)[1:]]
    assert any(abs(ratio - 1) > 1e-4 for ratio in ratios), "stale samples are corrected"

    run(replace(made, train=replace(made.train, max_steps=3)), "parts")
    parts = run(made, "parts", resume=True)
    assert steps(parts) == steps(whole)
    assert all((weights(parts)[name] == weights(whole)[name]).all() for name in weights(whole))


def test_restarts_that_are_played_ahead_resume_exactly(tiny_model_dir: Path, tmp_path: Path) -> None:
    source = {"name": "restarts", "share": 0.5, "decay_steps": 50, "max_staleness": 1}
    made = recipe(tiny_model_dir, tmp_path, source, save_steps=4, max_steps=7)
    made = replace(made, rollout=replace(made.rollout, num_generations=8, max_completion_length=24))
    whole = run(made, "whole")
    assert [step["staleness/lag_1/frac"] for step in steps(whole)[1:]] == [1.0] * 6
    assert [step["restarts/frac"] for step in steps(whole)[:2]] == [0.0, 0.0]
    assert any(step["restarts/frac"] > 0 for step in steps(whole)[2:4])
    assert any(step["restarts/frac"] > 0 for step in steps(whole)[4:])

    run(replace(made, train=replace(made.train, max_steps=4)), "parts")
    parts = run(made, "parts", resume=True)
    assert steps(parts) == steps(whole)
    assert all((weights(parts)[name] == weights(whole)[name]).all() for name in weights(whole))


def test_what_cannot_overlap_is_refused_before_anything_starts(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, {"name": "asynchronous"})
    for name in ("asynchronous", "restarts"):
        source = build("source", {"name": name, "max_staleness": 1})
        with pytest.raises(RecipeError, match=f"source {name} .*engine vllm cannot"):
            Run(replace(made, source=source, engine=build("engine", "vllm")), name="none")
    assert not (tmp_path / "none").exists()
