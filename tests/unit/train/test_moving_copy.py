"""Copies of networks that follow them slowly: by how much, how often, and in which precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from llmrl.recipe import TrainOptions
from llmrl.train.learners import Learners
from llmrl.train.moving_copy import MovingCopy
from llmrl.train.parallel import accelerator


def layer(value: float, dtype: torch.dtype = torch.float32) -> nn.Linear:
    made = nn.Linear(2, 2, bias=False, dtype=dtype)
    nn.init.constant_(made.weight, value)
    return made


@pytest.mark.parametrize("whole", [False, True])
def test_a_copy_moves_by_a_share_of_the_distance(whole: bool) -> None:
    copied = MovingCopy(layer(1.0), accelerator(TrainOptions(report_to="none")), whole=whole)
    for expected in (2.0, 2.75):  # 1 + 3/4, then a quarter of what is left
        copied.follow(layer(5.0), 0.25)
        assert copied.state_dict()["weight"].unique().tolist() == [expected]


def test_a_copy_moves_where_its_network_s_precision_would_round_the_step_away() -> None:
    copied = MovingCopy(layer(1.0, torch.bfloat16), accelerator(TrainOptions(report_to="none")))
    for _ in range(100):
        copied.follow(layer(2.0, torch.bfloat16), 1e-3)
    (weight,) = copied.state_dict()["weight"].unique().tolist()
    assert weight == pytest.approx(2.0 - 0.999**100, abs=1e-4)


def test_a_reference_takes_its_share_of_the_policy_in_the_steps_that_are_due(build: Callable[..., Learners]) -> None:
    moves = {"sync_ref_model": True, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.25}
    models = build("ref_logprobs", model=moves, algorithm={"name": "grpo", "beta": 0.1})
    assert models.reference is not None
    name, weight = next(iter(models.policy.net.named_parameters()))
    before = weight.detach().clone()
    with torch.no_grad():
        weight += 1.0
    moved = []
    for step in range(3):
        models.follow(step)
        moved.append(float((dict(models.reference.net.named_parameters())[name] - before).mean()))
    assert moved == pytest.approx([0.0, 0.25, 0.25], abs=1e-5)
