"""Arithmetic of comparisons: cosines, shares of credit, tokens that gain and lose; alternatives of a recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llmrl.errors import RecipeError
from llmrl.recipe import Recipe, parse
from llmrl.replaying.comparison import clip_share, compare, cosine, norm, shares
from llmrl.replaying.outcome import Outcome
from llmrl.replaying.run import alternatives_of

ONE, OTHER = ("a", 0, 0), ("a", 1, 0)


def outcome(gradient: list[float], pushes: dict[Any, list[float]], **metrics: float) -> Outcome:
    weights = {"w": torch.tensor(gradient)}
    rows = {place: np.array(push, np.float32) for place, push in pushes.items()}
    return Outcome(label="x", spec={"name": "x"}, metrics=metrics, gradient=weights, change=weights, pushes=rows)


def test_directions() -> None:
    left, right = {"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([4.0, 3.0]), "v": torch.tensor([0.0])}
    assert norm(left) == 5.0
    assert cosine(left, right) == pytest.approx(24 / 25)
    assert cosine(left, {"w": torch.zeros(2)}) is None


def test_shares_of_a_step_add_up_to_one() -> None:
    found = shares({ONE: np.array([0.0, 1.0, -2.0]), OTHER: np.array([1.0])})
    assert found[ONE].tolist() == [0.0, 0.25, -0.5]
    assert found[OTHER].tolist() == [0.25]
    assert shares({ONE: np.zeros(2)})[ONE].tolist() == [0.0, 0.0]


def test_tokens_gain_lose_and_turn() -> None:
    """Of four tokens one keeps its share, one loses it, one turns, and a sample that was dropped comes back."""
    record = outcome([1.0], {ONE: [0.0, 2.0, 1.0, 1.0]})
    other = outcome([1.0], {ONE: [0.0, 4.0, 0.0, -2.0], OTHER: [2.0]})
    found = compare(record, other)
    assert (found.gained, found.lost, found.flipped) == (1, 2, 1)
    assert [(each.where, each.token) for each in found.credit] == [(ONE, 3), (ONE, 2), (OTHER, 0), (ONE, 1)]
    assert found.credit[0].change == pytest.approx(-0.5)
    assert compare(record, outcome([1.0], {ONE: [0.0, 20.0, 10.0, 10.0]})).lost == 0, "scale is none"


def test_the_clip_share_is_the_algorithms() -> None:
    assert clip_share({"clip_ratio/region_mean": 0.25}) == 0.25
    assert clip_share({"loss": 1.0}) is None


@pytest.fixture
def recipe() -> Recipe:
    values = {"model": {"policy": "m"}, "data": {"name": "arithmetic"}, "reward": {"name": "numeric"}}
    return parse({**values, "algorithm": {"name": "grpo", "beta": 0.1}})


def test_alternatives(recipe: Recipe) -> None:
    made = alternatives_of(recipe, ["rloo", {"name": "grpo", "epsilon": 0.1}], (), "exact", ["algorithm.beta=0.5"])
    assert [each.label for each in made] == ["rloo", "grpo epsilon=0.1", "reward exact", "algorithm.beta=0.5"]
    assert [each.rescores for each in made] == [False, False, True, False]
    betas = [each.recipe.as_dict()["algorithm"].get("beta") for each in made]
    assert betas[1:] == [0.0, 0.1, 0.5], "a spec begins at defaults, an override at the run's options"


def test_options_are_of_each_algorithm_or_of_the_runs_own(recipe: Recipe) -> None:
    (own,) = alternatives_of(recipe, (), ["epsilon=0.1"], None, ())
    assert own.recipe.as_dict()["algorithm"]["epsilon"] == 0.1
    assert own.recipe.as_dict()["algorithm"]["beta"] == 0.1
    (named,) = alternatives_of(recipe, ["grpo"], ["epsilon=0.1"], None, ())
    assert named.recipe.as_dict()["algorithm"]["beta"] == 0.0
    (other,) = alternatives_of(recipe, (), (), None, ["algorithm.name=rloo"])
    assert other.recipe.as_dict()["algorithm"]["name"] == "rloo"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["rollout.temperature=0.5"], "changes rollout, and the episodes have been played"),
        (["algorithm.epsilom=1"], "epsilom"),
        (["algorithm.name=dapo"], "grpo with options"),
    ],
)
def test_what_cannot_be_is_refused(asked: list[str], words: str, recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=words):
        alternatives_of(recipe, (), (), None, asked)
