"""DPO of docs/extending.md by the real trainer: stored columns, and micro-batches that keep pairs together."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from llmrl import tiny
from llmrl.errors import DataError, RecipeError
from llmrl.recipe import Recipe, parse
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.train.stored_columns import write_columns

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(autouse=True)
def preferring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    section = PAGE.read_text(encoding="utf-8").split("## A loss over pairs")[1]
    (tmp_path / "preferring.py").write_text(re.findall(r"```python\n(.*?)```", section, re.S)[0], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("preferring", None)


def recipe(model: Path, folder: Path, name: str, columns: Path | None = None, **train: Any) -> Recipe:
    stored = folder / "pairs.jsonl"
    rows = [{"prompt": f"{i}+1=", "chosen": str(i + 1), "rejected": "x" * (1 + i % 4)} for i in range(12)]
    stored.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return parse(
        {
            "model": {"policy": str(model)},
            "algorithm": {"name": "preferring:Preferring", "beta": 0.5},
            "source": {"name": "offline", "path": str(stored), "columns": None if columns is None else str(columns)},
            "rollout": {"prompts_per_step": 5, "max_prompt_length": 32, "max_completion_length": 8},
            "train": {
                "max_steps": 6,
                "learning_rate": 1e-3,
                "output_dir": str(folder),
                "run_name": name,
                "report_to": "none",
                "save_steps": 0,
                **train,
            },
        }
    )


def trained(made: Recipe) -> tuple[list[dict[str, float]], dict[str, Any], bool]:
    """Metrics of the steps, final weights, and if a reference was loaded."""
    with Run(made) as run:
        train(run)
        referred = run.learners.reference is not None
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return lines, load_file(run.folder / "final" / "model.safetensors"), referred


def test_pairs_are_preferred_and_micro_batches_cannot_matter(tiny_model_dir: Path, tmp_path: Path) -> None:
    whole, weights, _ = trained(recipe(tiny_model_dir, tmp_path, "whole"))
    assert whole[0]["loss"] == pytest.approx(0.6931, abs=1e-3), "log 2: the policy is the reference"
    assert whole[-1]["loss"] < 0.6
    assert whole[-1]["rewards/accuracies"] > 0.7
    apart, others, _ = trained(recipe(tiny_model_dir, tmp_path, "apart", tokens_per_device=1))
    for line, other in zip(whole, apart, strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-3, abs=1e-5)
    assert max(float((weights[name] - others[name]).abs().max()) for name in weights) < 1e-3


def test_stored_columns_are_not_computed_again_and_change_nothing(tiny_model_dir: Path, tmp_path: Path) -> None:
    plain = recipe(tiny_model_dir, tmp_path, "plain")
    lines, weights, referred = trained(plain)
    assert referred
    assert write_columns(plain, tmp_path / "columns") == 12
    again, others, referred = trained(recipe(tiny_model_dir, tmp_path, "stored", tmp_path / "columns"))
    assert not referred
    assert [line["loss"] for line in again] == pytest.approx([line["loss"] for line in lines], rel=1e-4)
    assert max(float((weights[name] - others[name]).abs().max()) for name in weights) < 1e-3


def test_columns_of_another_model_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    write_columns(recipe(tiny_model_dir, tmp_path, "first"), tmp_path / "columns")
    other = tiny.make(tmp_path / "other", hidden=64, layers=2, seed=1)
    with pytest.raises(
        DataError, match=r"ref_logprobs is stale: it was made by the model (\w+) at .*, and the reference of"
    ):
        Run(recipe(other, tmp_path, "second", tmp_path / "columns"))
    warmer = recipe(tiny_model_dir, tmp_path, "third", tmp_path / "columns")
    with pytest.raises(DataError, match=r"at temperature 1 in float32, and .* at temperature 0.5 in float32"):
        Run(replace(warmer, rollout=replace(warmer.rollout, temperature=0.5)))


def test_what_has_no_column_to_store_says_so(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = replace(recipe(tiny_model_dir, tmp_path, "x"), algorithm={"name": "bc"})  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"llmrl data columns: nothing to write"):
        write_columns(made, tmp_path / "columns")


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "kto", "beta": 0.5},
        {"name": "preference", "loss_type": "orpo", "beta": 0.5},
        {"name": "preference", "beta": 0.5, "minibatches": 2},
        {"name": "a_lol", "baseline": "critic", "priority": "none"},
        {"name": "pro", "minibatches": 2},
    ],
    ids=lambda algorithm: str(algorithm["name"]),
)
def test_stored_answers_teach_every_algorithm_in_any_micro_batches(
    algorithm: dict[str, Any], tiny_model_dir: Path, tmp_path: Path
) -> None:
    finals = []
    for name, tokens in (("whole", None), ("apart", 1)):
        made = recipe(tiny_model_dir, tmp_path, name, tokens_per_device=tokens).as_dict()
        lines, weights, _ = trained(parse({**made, "algorithm": algorithm}))
        finals.append((lines, weights))
    (lines, weights), (others, apart) = finals
    assert all(line["grad_norm"] > 0 for line in lines)
    assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in others], rel=1e-3, abs=1e-5)
    assert max(float((weights[name] - apart[name]).abs().max()) for name in weights) < 1e-3


def test_steps_of_a_tree_are_preferred_by_their_values(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Rows as `llmrl data from-trees --rows preference` writes them."""
    made = recipe(tiny_model_dir, tmp_path, "steps").as_dict()
    shared = {"kind": "plan", "depth": 2, "problem": "p", "prefix_ids": [1, 2]}
    rows = [
        {
            **shared,
            "prompt": [{"role": "user", "content": f"{i}+1="}],
            "prefix": "Add. ",
            "chosen": str(i + 1),
            "rejected": "no",
            "q_chosen": 0.5 + 0.02 * i,
            "q_rejected": -0.5,
            "margin": 1.0,
        }
        for i in range(12)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines, _, referred = trained(parse({**made, "algorithm": {"name": "step_apo"}}))
    assert referred
    # At the reference z is minus the gap of values, from 1.0 to 1.22: softplus(1.0) is 1.313, softplus(1.22) 1.479.
    assert 1.313 < lines[0]["loss"] < 1.479
    assert lines[-1]["loss"] < lines[0]["loss"]
