"""Polyak copies take `target_tau` of the distance to what they copy: heads, or all of a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from llmrl.protocols import ModelSpec
from llmrl.recipe import TrainOptions
from llmrl.train.parallel import accelerator
from llmrl.train.targets import Targets


class Net(nn.Module):
    """A trunk and a head, all of whose weights are one number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.trunk = nn.Linear(2, 2, bias=False)
        self.heads = nn.ModuleDict({"q": nn.Linear(2, 2, bias=False)})
        for weight in self.parameters():
            nn.init.constant_(weight, value)


def followed(target: Any) -> dict[str, list[float]]:
    """Weights of a copy of 1 that has followed a model of 5 twice."""
    copied: nn.Module = Net(1.0) if target == "model" else Net(1.0).heads
    spec = ModelSpec(target_tau=0.25, target=target)
    targets = Targets(copied, spec, accelerator(TrainOptions(report_to="none")))
    for _ in range(2):
        targets.follow(Net(5.0))  # type: ignore[arg-type]
    return {name: torch.unique(weight).tolist() for name, weight in targets.copy.state_dict().items()}


def test_a_copy_of_heads_moves_by_its_share() -> None:
    assert followed("heads") == {"q.weight": [2.75]}


def test_a_copy_of_a_model_moves_by_its_share_with_its_trunk() -> None:
    assert followed("model") == {"trunk.weight": [2.75], "heads.q.weight": [2.75]}
