"""Options whose effect is known are felt in that direction, to the last digit where it is known that far."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmrl.recipe import Recipe
from llmrl.train.learners import Learners
from llmrl.train.run import Run
from tests.builders import watched
from tests.felt.runs import LEARNS, SMALL, Seeded
from tests.felt.steps import learners, recipe, rows

NARROW = {"max_steps": 4, "report_to": "none"}


def fitted(made: Recipe, steps: int = 1) -> tuple[Learners, dict[str, list[list[Tensor]]], dict[str, list[Tensor]]]:
    """Models after steps of their updates, the gradients of each step as the optimiser saw them, and first weights."""
    models = learners(made)
    seen = {name: watched(models, name) for name in ("policy", "critic")}
    first = {name: [p.detach().clone() for p in models[name].net.parameters()] for name in seen}
    for number in range(steps):
        told = made.algorithm.credit(models.annotate(rows(), made.algorithm.needs()))
        for update in made.algorithm.updates(number):
            rate = models.learning_rate(number, update.model)
            list(models.fit(told, update, seed=number, rate=rate))
    return models, seen, first


def moved(models: Learners, first: dict[str, list[Tensor]], name: str) -> float:
    """Measure how far a model has come from its first weights."""
    pairs = zip(models[name].net.parameters(), first[name], strict=True)
    return sum(float((now.detach() - then).abs().sum()) for now, then in pairs)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_trainer_divides_its_logits_by_the_temperature(temperature: float) -> None:
    made = recipe(rollout={"temperature": temperature})
    policy = learners(made).policy
    for row, found in zip(rows(), policy.logprobs(rows()), strict=True):
        ids = torch.tensor([row.token_ids.tolist()])
        with torch.no_grad():
            logits = policy.net.model(input_ids=ids).logits[0].double()
        expected = (logits[:-1] / temperature).log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        places = np.flatnonzero(row.action_mask)
        assert found[places] == pytest.approx(expected[places - 1].numpy(), abs=2e-5)


def test_the_critic_takes_its_own_rate_and_the_policy_its_own() -> None:
    """The first step of Adam is as long as its rate."""
    base = {**NARROW, "learning_rate": 1e-3}
    one, _, first = fitted(recipe(train=base, critic={"learning_rate": 1e-3}))
    other, _, again = fitted(recipe(train=base, critic={"learning_rate": 3e-3}))
    assert moved(other, again, "policy") == moved(one, first, "policy") > 0
    assert moved(one, first, "critic") > 0
    assert moved(other, again, "critic") == pytest.approx(3 * moved(one, first, "critic"), rel=1e-3)
    third, _, begun = fitted(recipe(train={**base, "learning_rate": 2e-3}, critic={"learning_rate": 1e-3}))
    assert moved(third, begun, "critic") == moved(one, first, "critic")
    assert moved(third, begun, "policy") == pytest.approx(2 * moved(one, first, "policy"), rel=1e-3)


@pytest.mark.parametrize("name", ["policy", "critic"])
def test_adam_is_that_of_the_options(name: str) -> None:
    """Three steps by hand, from the gradients that the optimiser saw: decoupled decay, both moments, their bias."""
    rate, decay, beta1, beta2 = 1e-2, 0.3, 0.6, 0.8
    options = {"learning_rate": rate, "weight_decay": decay, "adam_beta1": beta1, "adam_beta2": beta2}
    models, seen, first = fitted(recipe(train={**NARROW, **options}, critic={"learning_rate": rate}), steps=3)
    assert len(seen[name]) == 3
    for i, now in enumerate(models[name].net.parameters()):
        weight = first[name][i].double()
        mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
        for step, grads in enumerate(seen[name], start=1):
            grad = grads[i].double()
            mean, square = beta1 * mean + (1 - beta1) * grad, beta2 * square + (1 - beta2) * grad.square()
            scaled = (mean / (1 - beta1**step)) / ((square / (1 - beta2**step)).sqrt() + 1e-8)
            weight = weight * (1 - rate * decay) - rate * scaled
        torch.testing.assert_close(now.detach().double(), weight, atol=2e-6, rtol=1e-4)


def test_a_norm_above_the_bound_is_cut_to_it() -> None:
    for bound in (1e-3, 0.5):
        _, seen, _ = fitted(recipe(train={**NARROW, "max_grad_norm": bound}))
        norm = torch.stack([grad.norm() for grad in seen["policy"][0]]).norm()
        assert float(norm) == pytest.approx(bound, rel=1e-3)


def test_globals_are_seeded_whatever_was_drawn_before(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three generators, each after a draw of its own: a run with the same seed begins with the same numbers."""
    monkeypatch.chdir(tmp_path)

    def drawn(seed: int, before: int, name: str) -> list[float]:
        random.seed(before), np.random.seed(before), torch.manual_seed(before)
        train = {**LEARNS, "seed": seed, "run_name": name}
        engine = {"name": f"{Seeded.__module__}:Seeded"}
        with Run(recipe(rollout=SMALL, train=train, engine=engine, algorithm={"name": "grpo"})):
            return [random.random(), float(np.random.rand()), float(torch.rand(1))]

    one = drawn(5, 1, "one")
    assert drawn(5, 2, "two") == one
    assert all(a != b for a, b in zip(drawn(6, 1, "three"), one, strict=True))
