"""Adapters stand where targets name modules, and are scaled as the options say."""

from __future__ import annotations

import pytest
from torch import nn

from llmrl.errors import RecipeError
from llmrl.recipe import ModelOptions
from llmrl.train.adapters import _chosen, lora


def test_options_reach_peft() -> None:
    made = lora(
        ModelOptions(
            policy="p", use_peft=True, lora_r=3, lora_alpha=7, lora_dropout=0.25, lora_target_modules=["a", "b"]
        )
    )
    assert (made.r, made.lora_alpha, made.lora_dropout) == (3, 7, 0.25)
    assert made.target_modules == {"a", "b"}


def test_a_target_is_a_whole_name_or_a_pattern_of_a_whole_path() -> None:
    model = nn.ModuleDict({"one": nn.ModuleDict({"q": nn.Linear(2, 2), "eq": nn.Linear(2, 2)}), "q": nn.Linear(2, 2)})
    assert _chosen(model, ["q"]) == ["one.q", "q"]
    assert _chosen(model, ["one.eq"]) == ["one.eq"]
    assert _chosen(model, r".*\.q") == ["one.q"]
    with pytest.raises(RecipeError, match=r"has no module 'k'.*known: eq, q"):
        _chosen(model, ["k"])
