"""Epochs in steps: how many there are, by problems and by stored rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import RecipeError
from llmrl.recipe import Recipe, parse
from llmrl.train.epochs import in_steps


def recipe(tmp_path: Path, rows: int, model: Path | str = "unread", **sections: Any) -> Recipe:
    """A run over so many rows, whose prompts have their number of words; four a step."""
    file = tmp_path / "rows.jsonl"
    lines = [{"prompt": "word " * (row + 1), "completion": "yes", "answer": "1"} for row in range(rows)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    played = {"data": {"name": "jsonl", "path": str(file)}, "reward": "numeric", "algorithm": "grpo", "engine": "hf"}
    stored = {"source": {"name": "offline", "path": str(file)}, "algorithm": "bc"}
    chosen = stored if sections.pop("stored", False) else played
    rollout = {"prompts_per_step": 4, **sections.pop("rollout", {})}
    return parse({"model": {"policy": str(model)}, **chosen, "rollout": rollout, **sections})


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(("rows", "epochs", "steps"), [(8, 1, 2), (9, 1, 3), (9, 2, 5), (8, 0.25, 1), (3, 0.1, 1)])
def test_steps_are_the_passes_over_problems_or_rows(
    tmp_path: Path, stored: bool, rows: int, epochs: float, steps: int
) -> None:
    made = in_steps(recipe(tmp_path, rows, stored=stored, train={"num_train_epochs": epochs, "max_steps": 77}))
    assert (made.train.max_steps, made.train.num_train_epochs) == (steps, None)
    assert in_steps(made) is made


def test_prompts_that_are_left_out_do_not_count(tmp_path: Path, tiny_model_dir: Path) -> None:
    train = {"num_train_epochs": 1}
    every = recipe(tmp_path, 32, tiny_model_dir, train=train, rollout={"max_prompt_length": 4000})
    assert in_steps(every).train.max_steps == 8
    short = replace(every, rollout=replace(every.rollout, max_prompt_length=100, drop_long_prompts=True))
    assert 1 <= in_steps(short).train.max_steps < 8


def test_checks_that_count_steps_wait_for_them(tmp_path: Path) -> None:
    """Ten steps of warm-up are too many for two steps, and are not for the 100 that stand there by default."""
    made = recipe(
        tmp_path, 8, train={"num_train_epochs": 1, "warmup_steps": 10, "lr_scheduler_type": "linear", "max_steps": 5}
    )
    with pytest.raises(RecipeError, match=r"warmup_steps 10(\.0)? of train.max_steps 2"):
        in_steps(made)


def test_a_share_of_the_steps_warms_up(tmp_path: Path) -> None:
    made = in_steps(recipe(tmp_path, 40, train={"num_train_epochs": 1, "warmup_steps": 0.25}))
    assert (made.train.max_steps, made.train.warmup) == (10, 3)


def test_a_source_without_rows_to_count_is_refused(tmp_path: Path) -> None:
    made = recipe(tmp_path, 8, stored=True, train={"num_train_epochs": 1})

    class Endless:
        plays = False

        def fills(self) -> frozenset[str]:
            return frozenset()

        def start(self, context: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(RecipeError, match=r"no rows to count; expected train\.max_steps"):
        in_steps(replace(made, source=Endless()))
