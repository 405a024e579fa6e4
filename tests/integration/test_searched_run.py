"""A run whose episodes are answers of a search: chosen by a judge without gold, scored by the reward, learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import RecipeError
from llmrl.recipe import parse
from llmrl.run_folder import reader
from llmrl.train.loop import train
from llmrl.train.run import Run

SEARCH: dict[str, Any] = {"search": {"name": "best_of_n", "n": 4}, "judge": {"name": "length"}}


def tree(model: Path, out: Path, **rollout: Any) -> dict[str, Any]:
    sizes = {"num_generations": 2, "prompts_per_step": 3, "max_prompt_length": 32, "max_completion_length": 12}
    return {
        "model": {"policy": str(model)},
        "data": {"name": "arithmetic", "high": 9},
        "reward": {"name": "numeric"},
        "algorithm": {"name": "bc", "weights": "none"},
        "engine": {"name": "hf"},
        "rollout": sizes | rollout,
        "train": {"max_steps": 2, "learning_rate": 1e-3, "save_steps": 1, "output_dir": str(out), "report_to": "none"},
    }


def texts(folder: Path) -> list[str]:
    return [record.trajectory.text for record in reader.episodes(folder)]


def test_it_learns_from_chosen_answers_and_resumes(tiny_model_dir: Path, tmp_path: Path) -> None:
    recipe = parse(tree(tiny_model_dir, tmp_path, **SEARCH))
    assert parse(recipe.as_dict()) == recipe, "the spec of a strategy is written back"
    with Run(recipe, name="searched") as run:
        train(run)
    lines = [json.loads(line) for line in (tmp_path / "searched" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["grad_norm"] > 0 for line in lines)
    with Run(parse(tree(tiny_model_dir, tmp_path)), name="plain") as run:
        train(run)
    searched, plain = texts(tmp_path / "searched"), texts(tmp_path / "plain")
    assert len(searched) == len(plain) == 12
    assert all(len(a) >= len(b) for a, b in zip(searched[:6], plain[:6], strict=True)), (
        "the first of n is the plain one"
    )
    assert searched[:6] != plain[:6]
    (tmp_path / "searched" / "checkpoints" / "step-000002").rename(tmp_path / "gone")
    with Run(recipe, name="searched", resume=True) as run:
        train(run)
    assert texts(tmp_path / "searched") == searched


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"algorithm": {"name": "grpo"}},
            r"rollout\.search with algorithm grpo: .* a chosen answer is",
        ),
        (
            {"source": {"name": "offline", "path": "rows.jsonl"}},
            r"rollout\.search with source offline, which gene",
        ),
        ({"rollout": {"search": {"name": "best_of_n"}}}, r"rollout: search: it compares answers by a judge"),
        ({"rollout": {"judge": {"name": "length"}}}, r"rollout: judge and search_tokens are of a search"),
        ({"rollout": {"search": {"name": "majority"}, "search_tokens": 0}}, r"search_tokens 0: expected at least 1"),
    ],
)
def test_searches_that_cannot_be_are_refused(
    changes: dict[str, Any], message: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(tree(tiny_model_dir, tmp_path, **SEARCH) | changes)


def test_a_search_that_revises_has_room(tiny_model_dir: Path, tmp_path: Path) -> None:
    recipe = parse(tree(tiny_model_dir, tmp_path, **SEARCH | {"search": {"name": "refine"}}))
    assert recipe.rollout.max_length == 32 + 3 * 12
