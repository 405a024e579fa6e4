"""Trackers are there, under their names."""

from __future__ import annotations

import importlib.util

import pytest

from llmrl.errors import RecipeError
from llmrl.plugins import construct
from llmrl.recipe import TrainOptions
from llmrl.recipe.trackers import beginnings, require_installed


@pytest.mark.parametrize(
    ("given", "trackers"),
    [("none", []), ("tensorboard", ["tensorboard"]), (["wandb", "mlflow", "wandb"], ["wandb", "mlflow"]), ([], [])],
)
def test_one_or_several(given: object, trackers: list[str]) -> None:
    assert construct(TrainOptions, {"report_to": given}, "train").trackers == trackers


def test_a_misspelt_one_is_refused_when_a_recipe_is_read() -> None:
    with pytest.raises(RecipeError, match=r"train.report_to.*'wandb'.*found 'wandbb'; did you mean 'wandb'\?$"):
        construct(TrainOptions, {"report_to": "wandbb"}, "train")
    with pytest.raises(RecipeError, match=r"train.report_to.*found \['tensorbord'\]"):
        construct(TrainOptions, {"report_to": ["tensorbord"]}, "train")
    with pytest.raises(RecipeError, match="none beside others"):
        construct(TrainOptions, {"report_to": ["none", "wandb"]}, "train")


def test_one_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_installed(["tensorboard"])
    monkeypatch.setattr("llmrl.recipe.trackers.find_spec", lambda name: importlib.util.find_spec("json"))
    require_installed(["wandb", "comet_ml"])
    monkeypatch.setattr("llmrl.recipe.trackers.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"report_to comet_ml, wandb: not installed here; pip install comet-ml w"):
        require_installed(["comet_ml", "wandb"])


def test_trackers_get_the_runs_name_and_its_recipe() -> None:
    recipe = {"train": {"seed": 1}}
    given = beginnings("mine", recipe)
    assert given["wandb"] == given["trackio"] == {"name": "mine", "config": recipe}
    assert given["mlflow"] == {"run_name": "mine"}
