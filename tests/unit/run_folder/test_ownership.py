"""The owner of a folder: a run goes on with the recipe that it was begun with, but for what no step depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmrl.errors import RecipeError
from llmrl.recipe import Recipe, parse
from llmrl.run_folder.ownership import FREE, open_run_folder
from llmrl.run_folder.records import METRICS

TREE: dict[str, Any] = {
    "model": {"policy": "somewhere"},
    "data": {"name": "arithmetic"},
    "reward": {"name": "numeric"},
    "algorithm": {"name": "grpo"},
    "train": {"max_steps": 9, "report_to": "none"},
}


def recipe(**sections: dict[str, Any]) -> Recipe:
    return parse({**TREE, **{name: {**TREE.get(name, {}), **options} for name, options in sections.items()}})


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder in which a run of `TREE` has taken steps."""
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe().as_dict(), sort_keys=False))
    (tmp_path / METRICS).write_text("{}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"algorithm": {"epsilon": 0.3}}, "algorithm.epsilon"),
        ({"train": {"learning_rate": 0.5}}, "train.learning_rate"),
        ({"train": {"seed": 3}}, "train.seed"),
        ({"rollout": {"temperature": 0.5}}, "rollout.temperature"),
        ({"data": {"seed": 3}}, "data.seed"),
        ({"reward": {"name": "exact"}}, "reward.name"),
    ],
)
def test_what_steps_depend_on_stops_a_resume(begun: Path, sections: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=rf"cannot resume with another recipe; changed: .*{named}"):
        open_run_folder(begun, recipe(**sections), None, resume=True)


def test_what_no_step_depends_on_may_change(begun: Path) -> None:
    latest = begun / "checkpoints" / "step-000004"
    other = {"max_steps": 12, "save_steps": 3, "save_total_limit": 7, "stop_grace_s": 5.0, "max_nonfinite_updates": 2}
    assert open_run_folder(begun, recipe(train=other), latest, resume=True) == latest
    hub = {name for name in FREE if name.startswith(("hub_", "push_"))}
    assert set(FREE) == {*other, *hub, "output_dir", "run_name", "report_to"}, "where it lies, and who is told of it"
