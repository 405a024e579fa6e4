"""Models of a run, on a small real network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llmrl.protocols import Column
from llmrl.recipe import parse
from llmrl.train.learners import Learners
from llmrl.train.parallel import accelerator


@pytest.fixture
def build(tiny_model_dir: Path) -> Callable[..., Learners]:
    """Learners that fill the columns they are given, of a recipe with these sections."""

    def made(*needs: Column, **sections: dict[str, Any]) -> Learners:
        given = {"report_to": "none", "max_grad_norm": float("inf"), **sections.pop("train", {})}
        tree = {"data": {"name": "arithmetic"}, "reward": {"name": "numeric"}, "algorithm": {"name": "grpo"}}
        tree |= {**sections, "model": {"policy": str(tiny_model_dir), **sections.get("model", {})}, "train": given}
        recipe = parse(tree)
        torch.manual_seed(0)
        return Learners(recipe, accelerator(recipe.train), frozenset(needs))

    return made
