"""Restarts and a warm start in runs of a real policy."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from llmrl.plugins import build, spec_of
from llmrl.recipe import Recipe, parse
from llmrl.run_folder.writer import Logs
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Completion, Score, Trajectory, Turn


def recipe(model: Path, out: Path, source: dict[str, Any], **train_options: Any) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 9},
            "reward": {"name": "format", "pattern": "(?s).*[a-zA-Z]"},
            "algorithm": {"name": "grpo", "scale_rewards": "none"},
            "engine": {"name": "hf"},
            "source": source,
            "rollout": {
                "num_generations": 4,
                "prompts_per_step": 2,
                "max_completion_length": 12,
                "max_prompt_length": 32,
                "reward_workers": 1,
            },
            "train": {
                "max_steps": 4,
                "save_steps": 2,
                "learning_rate": 1e-3,
                "output_dir": str(out),
                "report_to": "none",
                **train_options,
            },
        }
    )


def steps(folder: Path) -> list[dict[str, float]]:
    """The metrics of each step, without what only a clock decides."""
    timed = ("time/", "reward_latency/", "perf/tokens_per_sec", "step_time", "sync/seconds")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(timed)} for line in lines]


def run(made: Recipe, name: str, resume: bool = False) -> Path:
    with Run(made, name=name, resume=resume) as run:
        train(run)
        return run.folder


def told(made: Recipe, folder: Path) -> str:
    """Rollouts of another run, with lines to begin after."""
    nothing = Completion(token_ids=[], logprobs=[], finish="stop", version=0)
    turn = Turn(prompt_ids=[], completion=nothing, text="3+4\nis\n7")
    assert made.data is not None
    problems = islice(made.data.problems(), 6)
    groups = [
        [Trajectory(problem=one, turns=[turn], status="done", score=Score(i % 2), group=f"{i}/{one.id}", episode=i)]
        for i, one in enumerate(problems)
    ]
    Logs(folder, writes=True, share=1.0).rollouts(0, groups, [])
    return str(folder / "rollouts.jsonl")


def test_a_run_with_restarts_resumes_exactly(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, {"name": "restarts", "decay_steps": 40})
    source = {**spec_of("source", made.source), "rollouts": told(made, tmp_path / "told")}
    made = replace(made, source=build("source", source))
    whole = run(made, "whole")
    assert [step["restarts/frac"] for step in steps(whole)] == [0.5] * 4
    assert all(step["restarts/prefix_length"] in (4.0, 7.0) for step in steps(whole)), "3+4 and is, with their ends"
    run(replace(made, train=replace(made.train, max_steps=2)), "parts")
    assert steps(run(made, "parts", resume=True)) == steps(whole)


@pytest.mark.parametrize(
    "curriculum",
    [{"name": "alp_bins", "bins": 4}, {"name": "alp_gmm", "features": ["digits"], "fit_every": 3, "max_components": 2}],
    ids=lambda spec: spec["name"],
)
def test_a_run_with_a_curriculum_resumes_exactly(
    tiny_model_dir: Path, tmp_path: Path, curriculum: dict[str, Any]
) -> None:
    made = recipe(tiny_model_dir, tmp_path, {"name": "restarts", "curriculum": curriculum})
    made = replace(made, data=build("data", {"name": "arithmetic", "high": 19}))
    whole = run(made, "whole")
    assert all({"curriculum/pass_rate", "curriculum/progress"} <= set(step) for step in steps(whole))
    run(replace(made, train=replace(made.train, max_steps=2)), "parts")
    assert steps(run(made, "parts", resume=True)) == steps(whole)


def test_nothing_learns_while_rollouts_are_collected(tiny_model_dir: Path, tmp_path: Path) -> None:
    start = load_file(tiny_model_dir / "model.safetensors")

    made = recipe(tiny_model_dir, tmp_path, {"name": "online"}, max_steps=3, save_steps=2, warmup_rollouts=9)
    folder = run(made, "collecting")  # 8 episodes a step: two steps

    def moved(weights: Path) -> bool:
        found = load_file(weights)
        pairs = [(value, start[key]) for name, value in found.items() for key in start if name.endswith(key)]
        assert len(pairs) >= len(start)
        return any((value != before).any() for value, before in pairs)

    assert not moved(folder / "checkpoints" / "step-000002" / "model.safetensors")
    assert moved(folder / "final" / "model.safetensors")
    assert ["loss" in step for step in steps(folder)] == [False, False, True]
    assert all("reward" in step for step in steps(folder))
