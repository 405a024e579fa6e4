"""A run that was killed between an evaluation and the checkpoint after it goes on, with the answers that still hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmrl.recipe import Recipe, parse
from llmrl.train.evaluation import forget_replaced
from llmrl.train.loop import train
from llmrl.train.run import Run

ANSWERS = "arithmetic.jsonl"


class KilledError(Exception):
    """Ends a run where a kill would."""


def recipe(model: Path, out: Path) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 3},
            "reward": {"name": "format", "pattern": ".*[a-z].*"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "rollout": {
                "num_generations": 4,
                "prompts_per_step": 4,
                "max_completion_length": 6,
                "max_prompt_length": 32,
                "reward_workers": 1,
            },
            "eval": {"every": 2, "benchmarks": ["arithmetic"], "limit": 3},
            "train": {
                "max_steps": 2,
                "save_steps": 1,
                "learning_rate": 1e-2,
                "lr_scheduler_type": "linear",
                "output_dir": str(out),
                "report_to": "none",
            },
        }
    )


def take(made: Recipe, *, resume: bool = False, killed_in: int | None = None) -> int:
    """Run the recipe's steps; the number of answers that were asked for."""
    asked = []

    def after(step: int, _metrics: Mapping[str, float], _groups: Any) -> None:  # behind the evaluation, before the save
        if step == killed_in:
            raise KilledError

    with Run(made, resume=resume, on_step=after, on_sample=lambda *told: asked.append(told)) as run:
        train(run)
    return len(asked)


@pytest.fixture
def killed(tiny_model_dir: Path, tmp_path: Path) -> Recipe:
    """The recipe of a run that was killed after the evaluation of its second step, with a checkpoint of the first."""
    made = recipe(tiny_model_dir, tmp_path)
    with pytest.raises(KilledError):
        take(made, killed_in=1)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000001"]
    return made


def test_it_goes_on_with_keys_that_may_change_and_asks_nothing_twice(killed: Recipe, tmp_path: Path) -> None:
    answers = tmp_path / "run" / "eval" / "step-000002" / ANSWERS
    before = answers.read_bytes()
    other = replace(killed, train=replace(killed.train, save_steps=7, save_total_limit=5, max_nonfinite_updates=9))
    assert take(other, resume=True) == 0
    assert answers.read_bytes() == before
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert "eval/arithmetic/avg@1" in lines[1]


def test_answers_of_weights_that_are_no_more_are_asked_again(
    killed: Recipe, tiny_model_dir: Path, tmp_path: Path
) -> None:
    longer = replace(killed, train=replace(killed.train, max_steps=4))  # whose second step has another rate
    assert take(longer, resume=True) == 6
    alone = recipe(tiny_model_dir, tmp_path / "alone")
    first = take(replace(alone, train=replace(alone.train, max_steps=2)), resume=False)
    assert first == 3
    configs = [
        json.loads((tmp_path / part / "eval/step-000002/config.json").read_text()) for part in ("run", "alone/run")
    ]
    weights = [config["arithmetic"]["player"].pop("weights") for config in configs]
    assert configs[0] == configs[1]
    assert weights[0] != weights[1]


def test_only_answers_of_other_weights_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "step-000002"
    now = {"model": {"policy": "m"}, "weights": "new"}

    def stored(player: Any) -> bool:
        out.mkdir(exist_ok=True)
        (out / "config.json").write_text(json.dumps({"arithmetic": {"player": player}}))
        forget_replaced(out, now)
        return out.exists()

    assert stored(now)
    assert stored({"model": {"policy": "another"}, "weights": "old"}), "refused later, with both values"
    assert stored(None)
    assert not stored({**now, "weights": "old"})
    forget_replaced(out, now)  # nothing there
