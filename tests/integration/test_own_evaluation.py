"""A run that is evaluated on problems of its own: what it logs, with a reward that judges and one that only counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmrl.data.jsonl import Jsonl
from llmrl.errors import DataError, RecipeError
from llmrl.evaluation.records import read_json
from llmrl.plugins import build
from llmrl.recipe import Recipe, parse
from llmrl.train.dry_run import require_possible
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Problem, Score


def letters(problem: Problem, text: str) -> Score:
    """A number without a verdict."""
    return Score(len(text) / 10)


def recipe(model: Path, out: Path, **sections: Any) -> Recipe:
    file = out / "sums.jsonl"
    rows = [{"id": f"{a}+{b}", "prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(4) for b in range(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"name": "split", "of": {"name": "jsonl", "path": str(file)}, "test_size": 3}
    return parse(
        {
            "model": {"policy": str(model)},
            "data": data,
            "reward": {"name": "numeric"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "rollout": {"num_generations": 2, "prompts_per_step": 4, "max_completion_length": 6, "reward_workers": 1},
            "eval": {"every": 1, "data": {**data, "part": "test"}},
            "train": {"max_steps": 1, "save_steps": 0, "output_dir": str(out), "report_to": "none"},
            **sections,
        }
    )


def logged(made: Recipe) -> tuple[dict[str, float], int | None]:
    """Metrics of the last step's evaluation, and which step is the best."""
    seen: list[Mapping[str, float]] = []
    with Run(made, on_step=lambda _step, metrics, _groups: seen.append(dict(metrics))) as run:
        train(run)
    return {name: value for name, value in seen[-1].items() if name.startswith("eval/")}, run.evaluation.best_step


def test_a_reward_that_judges_gives_a_share_and_a_mean(tiny_model_dir: Path, tmp_path: Path) -> None:
    metrics, _ = logged(recipe(tiny_model_dir, tmp_path))
    result = read_json(tmp_path / "run" / "eval" / "step-000001" / "results.json")["data"]
    assert result["problems"] == 3
    assert metrics["eval/data/reward"] == result["metrics"]["reward"]["value"]
    assert metrics["eval/data/avg@1"] == result["metrics"]["avg@1"]["value"]
    rows = [json.loads(line) for line in (tmp_path / "run/eval/step-000001/data.jsonl").read_text().splitlines()]
    assert metrics["eval/data/reward"] == sum(row["value"] for row in rows) / 3
    trained = {json.loads(line)["problem"] for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()}
    assert trained.isdisjoint(row["problem"] for row in rows)
    assert len(trained) == 4


def test_a_reward_without_verdicts_gives_its_mean_alone_and_chooses_the_best(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    metrics, chosen = logged(recipe(tiny_model_dir, tmp_path, reward={"name": f"{__name__}:letters"}))
    rows = [json.loads(line) for line in (tmp_path / "run/eval/step-000001/data.jsonl").read_text().splitlines()]
    assert metrics["eval/data/reward"] == pytest.approx(sum(len(row["completion"]) for row in rows) / 30)
    assert metrics["eval/data/unjudged"] == 0
    assert not [name for name in metrics if "avg@" in name]
    assert chosen == 1


def test_what_cannot_be_evaluated_is_refused_before_the_run(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path)
    with pytest.raises(RecipeError, match=r"eval\.data: nothing is evaluated; expected eval\.every"):
        replace(made, eval=replace(made.eval, every=0))
    stored = build("source", {"name": "offline", "path": str(tmp_path / "sums.jsonl")})
    with pytest.raises(RecipeError, match=r"eval\.data: no reward judges it"):
        replace(made, reward=None, data=None, source=stored, algorithm=build("algorithm", "bc"))
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"id": "long", "prompt": "1+" * 300, "answer": "1"}) + "\n")
    asked = replace(made.eval, data=Jsonl(path=str(long)))
    with pytest.raises(DataError, match=r"eval\.data: .*longer than rollout\.max_prompt_length 512"):
        Run(replace(made, eval=asked, rollout=replace(made.rollout, max_prompt_length=512)))
    gone = replace(made, eval=replace(made.eval, data=Jsonl(path=str(tmp_path / "gone.jsonl"))))
    with pytest.raises(DataError, match="gone"):
        require_possible(gone)
