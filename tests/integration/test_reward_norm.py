"""Rewards by running moments in a whole run: what is learned from, what is logged, what a checkpoint keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from llmrl.recipe import parse
from llmrl.samples import Sample
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Score, Trajectory


@dataclass(frozen=True)
class Digits:
    """Any number that differs between answers."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(5.0 + sum(one.turns[-1].completion.token_ids) % 11) for one in group]


plugin = Digits


def run(model: Path, out: Path, steps: int, *, resume: bool = False) -> tuple[Run, list[list[Sample]]]:
    """The run after so many steps, and the rows that its algorithm saw in each."""
    recipe = parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 3},
            "reward": {"name": f"{__name__}:Digits"},
            "algorithm": {"name": "reinforce_pp"},
            "engine": {"name": "hf"},
            "rollout": {
                "num_generations": 3,
                "prompts_per_step": 2,
                "max_completion_length": 4,
                "max_prompt_length": 32,
                "reward_workers": 1,
            },
            "train": {
                "max_steps": steps,
                "save_steps": 1,
                "normalize_rewards": True,
                "output_dir": str(out),
                "report_to": "none",
            },
        }
    )
    seen: list[list[Sample]] = []
    with Run(recipe, resume=resume) as one:
        annotate = one.learners.annotate

        def watched(rows: Sequence[Sample], needs: Any) -> list[Sample]:
            seen.append(list(rows))
            return annotate(rows, needs)

        one.learners.annotate = watched  # type: ignore[method-assign]
        train(one)
    return one, seen


def lines(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "run" / name).read_text().splitlines()]


def test_a_run_learns_from_standardised_rewards_and_logs_raw_ones(tiny_model_dir: Path, tmp_path: Path) -> None:
    _, seen = run(tiny_model_dir, tmp_path, 3)
    raw: list[float] = []
    for step, (rows, metrics) in enumerate(zip(seen, lines(tmp_path, "metrics.jsonl"), strict=True)):
        paid = [line["reward"] for line in lines(tmp_path, "rollouts.jsonl") if line["step"] == step]
        raw += paid
        assert min(paid) >= 5.0
        assert metrics["reward"] == pytest.approx(fmean(paid))
        assert metrics["reward_norm/mean"] == pytest.approx(fmean(raw))
        assert metrics["reward_norm/std"] == pytest.approx(stdev(raw))
        wanted = sorted((reward - fmean(raw)) / stdev(raw) for reward in paid)
        assert sorted(row.reward for row in rows) == pytest.approx(wanted)


def test_a_resumed_run_goes_on_with_its_moments(tiny_model_dir: Path, tmp_path: Path) -> None:
    run(tiny_model_dir, tmp_path / "parts", 1)
    resumed, late = run(tiny_model_dir, tmp_path / "parts", 3, resume=True)
    whole, seen = run(tiny_model_dir, tmp_path / "whole", 3)
    assert [[row.reward for row in rows] for rows in late] == [[row.reward for row in rows] for rows in seen[1:]]
    assert resumed.normaliser.moments == whole.normaliser.moments
    assert whole.normaliser.moments.count == 18
    newest = max((tmp_path / "whole/run/checkpoints").glob("*/run.json"))
    assert json.loads(newest.read_text())["parts"]["rewards"] == {
        "count": 18,
        "mean": whole.normaliser.moments.mean,
        "squares": whole.normaliser.moments.squares,
    }
