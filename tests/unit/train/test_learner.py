"""An optimiser step on a small real model: whose rate and options it has, what it is of, and what it leaves alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.protocols import Forward, Loss, Update
from llmrl.samples import Sample
from llmrl.train.learner import OptimStep
from llmrl.train.learners import Learners
from tests.builders import sample, watched

Build = Callable[..., Learners]


def rows(count: int = 4) -> list[Sample]:
    """Rows of random tokens and growing lengths, the longest first; each token weighs 1/8, and has an advantage."""
    random, made = Random(3), []
    for episode in range(count):
        length = 12 - 2 * episode
        ids = [random.randrange(10, 250) for _ in range(length)]
        row = sample(episode=episode, token_ids=ids, turn_ids=[-1, -1] + [0] * (length - 2), dtype=np.float32)
        made.append(row.assign(weights=0.125, advantages=1.0 + episode, returns=0.5))
    return made


def nll(new: Forward, batch: Batch) -> Loss:
    return Loss(-batch.advantages * new.logprobs, metrics={"advantage": batch.advantages})


def value_loss(new: Forward, batch: Batch) -> Loss:
    return Loss(new.value_loss(batch.returns))


POLICY = Update("policy", nll)


def fitted(models: Learners, update: Update = POLICY, rate: float = 0.0) -> list[OptimStep]:
    return [step for _, step in models.fit(rows(), update, seed=0, rate=rate)]


def norm(gradients: list[Tensor]) -> float:
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def test_numbers_of_rows_come_back_to_their_rows(build: Build) -> None:
    """Rows of mixed lengths, two to a micro-batch: each has the numbers that it has alone."""
    models = build(train={"tokens_per_device": 40})
    mixed = [rows()[i] for i in (2, 0, 3, 1)]
    for row, together in zip(mixed, models.policy.read(mixed, ["logprobs"]), strict=True):
        (alone,) = models.policy.read([row], ["logprobs"])
        assert together["logprobs"] == pytest.approx(alone["logprobs"], abs=1e-5)


def test_a_step_is_adamw_s_at_the_rate_of_the_call_and_with_the_recipe_s_options(build: Build) -> None:
    models = build(train={"learning_rate": 5e-4, "weight_decay": 0.2, "adam_beta1": 0.5, "adam_beta2": 0.7})
    gradients = watched(models)
    net = models.policy.net
    mirror = [torch.nn.Parameter(copy.deepcopy(p.detach())) for p in net.parameters()]
    expected = torch.optim.AdamW(mirror, lr=1e-2, betas=(0.5, 0.7), weight_decay=0.2)
    for rate in (1e-2, 3e-3):
        fitted(models, rate=rate)
        for parameter, gradient in zip(mirror, gradients[-1], strict=True):
            parameter.grad = gradient
        expected.param_groups[0]["lr"] = rate
        expected.step()
    for ours, theirs in zip(net.parameters(), mirror, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-7)


def test_gradients_begin_anew_with_every_step(build: Build) -> None:
    models = build()
    gradients = watched(models)
    fitted(models)
    fitted(models)
    assert norm(gradients[0]) > 1e-3
    assert norm(gradients[1]) == pytest.approx(norm(gradients[0]))


def test_the_norm_is_told_before_it_is_clipped(build: Build) -> None:
    models = build(train={"max_grad_norm": 1e-3})
    gradients = watched(models)
    (step,) = fitted(models)
    assert norm(gradients[0]) == pytest.approx(1e-3, rel=1e-3)
    assert step.metrics["grad_norm"] > 0.01


def test_a_loss_is_the_weighted_sum_and_metrics_are_means_over_what_learns(build: Build) -> None:
    models = build("old_logprobs")
    logprobs = models.policy.logprobs(rows())
    terms = [-(1.0 + i) * own.sum() for i, own in enumerate(logprobs)]
    (step,) = fitted(models)
    assert step.metrics["loss"] == pytest.approx(sum(terms) / 8, rel=1e-5)
    counts = [row.actions for row in rows()]
    mean = sum((1.0 + i) * count for i, count in enumerate(counts)) / sum(counts)
    assert step.metrics["advantage"] == pytest.approx(mean), "padding and prompts take no part"


def test_entropy_has_a_gradient_where_the_update_asks_for_it(build: Build) -> None:
    """A bonus on the entropy moves the weights; without the update's word it is a number for the log."""
    bonus = Update("policy", lambda new, _: Loss(-new.entropy), entropy_grad=True)
    models = build()
    gradients = watched(models)
    fitted(models, bonus)
    assert norm(gradients[0]) > 1e-3
    with pytest.raises(RuntimeError, match="does not require grad"):
        fitted(models, replace(bonus, entropy_grad=False))


def test_minibatches_weigh_as_their_step_does(build: Build) -> None:
    (whole,) = fitted(build())
    parts = fitted(build(), Update("policy", nll, minibatches=2))
    assert len(parts) == 2
    assert sum(part.metrics["loss"] for part in parts) / 2 == pytest.approx(whole.metrics["loss"], rel=1e-5)


def test_an_update_that_is_not_finite_changes_nothing(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    models = build()
    monkeypatch.setattr(models.policy, "stepped", lambda: called.append("targets would follow"))
    before = [weight.clone() for weight in models.policy.net.parameters()]
    (step,) = fitted(models, Update("policy", lambda new, batch: Loss(new.logprobs * float("nan"))), rate=0.1)
    assert (step.applied, called) == (False, [])
    assert all(torch.equal(a, b) for a, b in zip(before, models.policy.net.parameters(), strict=True))
    (step,) = fitted(models, rate=1e-3)
    assert (step.applied, called) == (True, ["targets would follow"]), "nothing of the bad gradient is left"


def test_numbers_come_back_to_their_rows_whatever_the_micro_batches(build: Build) -> None:
    one = build().policy.logprobs(rows())
    several = build(train={"tokens_per_device": 12}).policy.logprobs(rows()[::-1])[::-1]
    for ours, theirs in zip(one, several, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_dropout_of_adapters_is_off_while_a_policy_is_read(build: Build) -> None:
    models = build(model={"use_peft": True, "lora_dropout": 0.5})
    with torch.no_grad():
        for name, weight in models.policy.net.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    fitted(models)
    first, second = (models.policy.logprobs(rows()) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_below_the_adapters_lies_the_reference(build: Build, tiny_model_dir: Path) -> None:
    models = build("ref_logprobs", model={"use_peft": True})
    with torch.no_grad():
        for name, weight in models.policy.net.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    annotated = models.annotate(rows(), {"ref_logprobs", "old_logprobs"})
    plain = build().policy.logprobs(rows())
    for row, own in zip(annotated, plain, strict=True):
        assert row.ref_logprobs == pytest.approx(own, abs=1e-5)
        assert np.abs(row.old_logprobs - row.ref_logprobs).max() > 1e-4


def test_a_critic_has_a_rate_and_weights_of_its_own(build: Build) -> None:
    models = build("values", critic={"learning_rate": 0.25}, train={"learning_rate": 0.5, "warmup_steps": 2})
    assert models.learning_rate(0, "policy") == pytest.approx(0.25)
    assert models.learning_rate(0, "critic") == pytest.approx(0.125)
    weighed = [row.assign(value_weights=0.0) for row in rows()]
    ((_, step),) = models.fit(weighed, Update("critic", value_loss), seed=0, rate=0.0)
    assert step.metrics["loss"] == 0.0


def test_columns_that_are_stored_are_not_computed_again(build: Build) -> None:
    stored = [row.assign(old_logprobs=-7.0) for row in rows()]
    for row in build().annotate(stored, {"old_logprobs"}):
        assert set(row.old_logprobs[row.action_mask]) == {-7.0}


def test_a_policy_is_scored_at_the_temperature_of_its_rollouts(build: Build) -> None:
    cold, warm = (
        build(rollout={"temperature": temperature}).policy.logprobs(rows()[:1])[0] for temperature in (1.0, 4.0)
    )
    mask = rows()[0].action_mask
    assert np.abs(cold - warm)[mask].max() > 1e-3
