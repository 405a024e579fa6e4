"""The critic and the moving reference on a real small model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.batch import Batch
from llmrl.errors import CheckpointError, RecipeError
from llmrl.protocols import Column, Forward, Loss, Update
from llmrl.recipe import parse
from llmrl.samples import Sample
from llmrl.train.learners import Learners
from llmrl.train.parallel import accelerator
from tests.builders import sample, some

OF_STATES: frozenset[Column] = frozenset({"values", "next_values", "last_values"})


def value_loss(new: Forward, batch: Batch) -> Loss:
    return Loss(new.value_loss(batch.returns))


@pytest.fixture
def build(tiny_model_dir: Path) -> Callable[..., Learners]:
    def made(needs: frozenset[Column] = OF_STATES, **sections: dict[str, Any]) -> Learners:
        tree = {
            "model": {"policy": str(tiny_model_dir), **sections.pop("model", {})},
            "data": {"name": "arithmetic"},
            "reward": {"name": "numeric"},
            "algorithm": {"name": "grpo", "beta": 0.1},
            "train": {"report_to": "none", "max_grad_norm": float("inf"), **sections.pop("train", {})},
            **sections,
        }
        recipe = parse(tree)
        torch.manual_seed(0)
        return Learners(recipe, accelerator(recipe.train), needs)

    return made


def step(count: int = 6) -> list[Sample]:
    """Rows of random tokens: a prompt of three, then the policy, a reply of two, and the policy again."""
    random = Random(3)
    rows = []
    for episode in range(count):
        turns = [-1, -1, -1] + [0] * random.randint(1, 9) + [-1, -1] + [1] * random.randint(1, 9)
        rows.append(
            sample(
                group="0/p",
                episode=episode,
                reward=0.0,
                turn_rewards=[0.0, 0.0],
                token_ids=[random.randrange(10, 250) for _ in turns],
                turn_ids=turns,
                action_mask=[turn >= 0 for turn in turns],
                sampled_logprobs=[0.0] * len(turns),
            )
        )
    return rows


def credited(rows: list[Sample]) -> list[Sample]:
    """Every token shall be worth the parity of its id."""
    return [
        row.assign(returns=[float(token % 2) for token in row.token_ids], weights=1.0 / len(rows), advantages=0.0)
        for row in rows
    ]


def test_a_value_is_of_the_state_before_its_token(build: Callable[..., Learners]) -> None:
    models = build(critic={"zero_init": False})
    rows = models.annotate(step(), OF_STATES)
    net = models["critic"].net
    for row in some(rows):
        with torch.no_grad():
            states = net.model(input_ids=torch.tensor([row.token_ids.tolist()])).last_hidden_state[0]
        heads = (states @ net.heads["value"].body.weight.T).squeeze(-1).tolist()
        for t, chosen in enumerate(row.action_mask):
            assert row.values[t] == pytest.approx(heads[t - 1] if chosen else 0.0, abs=1e-5)
            assert row.next_values[t] == pytest.approx(heads[t] if chosen else 0.0, abs=1e-5)
        assert row.columns["last_values"].ndim == 0
        assert row.columns["last_values"] == row.next_values[row.action_mask][-1]


def test_a_new_critic_claims_nothing(build: Callable[..., Learners]) -> None:
    assert not any(row.values.any() for row in build().annotate(step(), {"values"}))


@pytest.mark.parametrize("head", ["scalar", "bernoulli", "hl_gauss", "two_hot", "c51"])
def test_a_critic_learns_and_the_policy_stays(build: Callable[..., Learners], head: str) -> None:
    models = build(critic={"head": {"name": head}})
    rows = credited(step())
    before = [weight.clone() for weight in models.policy.net.parameters()]
    losses = []
    for _ in range(25):
        for _, fit in models.fit(rows, Update("critic", value_loss), seed=0, rate=3e-3):
            losses.append(fit.metrics["loss"])
            assert (fit.model, fit.applied) == ("critic", True)
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, models.policy.net.parameters(), strict=True))


@pytest.mark.parametrize("train", [{"tokens_per_device": 20}, {"packing": False}])
def test_the_gradient_of_a_critic_knows_no_micro_batches(build: Callable[..., Learners], train: dict[str, Any]) -> None:
    def gradient(**train: Any) -> list[Tensor]:
        models = build(critic={"head": {"name": "hl_gauss"}, "zero_init": False}, train=train)
        caught: list[Tensor] = []
        critic = models["critic"]
        critic.optimizer.optimizer.register_step_pre_hook(
            lambda *_: caught.extend(p.grad.clone() for p in critic.net.parameters() if p.grad is not None)
        )
        list(models.fit(credited(step()), Update("critic", value_loss), seed=0, rate=0.0))
        return caught

    whole, split = gradient(), gradient(**train)
    gap = torch.stack([(a - b).norm() for a, b in zip(whole, split, strict=True)]).norm()
    size = torch.stack([a.norm() for a in whole]).norm()
    assert size > 1e-3, "nothing to compare"
    assert gap / size < 1e-5


def test_the_critic_has_weights_of_its_own(build: Callable[..., Learners]) -> None:
    rows = [row.assign(value_weights=0.0) for row in credited(step())]
    ((_, fit),) = build(critic={"zero_init": False}).fit(rows, Update("critic", value_loss), seed=0, rate=1e-3)
    assert fit.metrics["loss"] == 0.0
    assert fit.metrics["grad_norm"] == 0.0


def test_entropy_carries_a_gradient_where_it_is_asked_for(build: Callable[..., Learners]) -> None:
    def bonus(new: Forward, _: Batch) -> Loss:
        return Loss(-new.entropy)

    found = []
    for asked in (True, False):
        models = build(frozenset())
        update = Update("policy", bonus, entropy_grad=asked)
        if asked:
            ((_, fit),) = models.fit(credited(step()), update, seed=0, rate=0.0)
            found.append(fit.metrics["grad_norm"])
        else:
            with pytest.raises(RuntimeError, match="does not require grad"):
                list(models.fit(credited(step()), update, seed=0, rate=0.0))
    assert found[0] > 0


def test_what_a_recipe_says_of_the_critic_wrongly(build: Callable[..., Learners], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"critic\.head\.name: unknown head 'hl_gaus'; did you mean 'hl_gauss'"):
        build(critic={"head": {"name": "hl_gaus"}})
    with pytest.raises(RecipeError, match=r"critic\.head\.bin: unknown key"):
        build(critic={"head": {"name": "two_hot", "bin": 3}})
    with pytest.raises(CheckpointError, match=r"critic\.model: .* has no config\.json"):
        build(critic={"model": str(tmp_path)})
    with pytest.raises(RecipeError, match="it trains the model 'critic', which this run does not have"):
        list(build(frozenset()).fit(credited(step()), Update("critic", value_loss), seed=0, rate=0.0))


def test_a_column_that_no_model_fills_is_refused_with_a_hint(build: Callable[..., Learners]) -> None:
    with pytest.raises(RecipeError, match=r"needs\(\) the column 'old_logprob', .*did you mean 'old_logprobs'"):
        build(frozenset({"old_logprob"}))
    with pytest.raises(RecipeError, match=r"the column 'advantages', which no model fills.*known: old_logprobs"):
        build(frozenset({"advantages"}))


# The reference


def drift(models: Learners) -> None:
    """Move the policy."""
    with torch.no_grad():
        for number, weight in enumerate(models.policy.net.parameters()):
            weight.add_(0.01 * (number + 1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_reference_follows_by_its_share_on_time(build: Callable[..., Learners], dtype: str) -> None:
    moves = {"sync_ref_model": True, "ref_model_mixup_alpha": 0.005, "ref_model_sync_steps": 2, "dtype": dtype}
    models = build(frozenset({"ref_logprobs"}), model=moves)
    assert models.reference is not None
    drift(models)
    start = [weight.clone() for weight in models.reference.net.parameters()]
    models.follow(0)
    assert all(torch.equal(a, b) for a, b in zip(start, models.reference.net.parameters(), strict=True))
    models.follow(1)
    for old, now, policy in zip(start, models.reference.net.parameters(), models.policy.net.parameters(), strict=True):
        assert torch.allclose(now.float(), 0.995 * old.float() + 0.005 * policy.float(), atol=1e-7)
        assert not torch.equal(now, old), "in bfloat16 it would not have moved"
        assert now.dtype == torch.float32


def test_a_reference_that_stands_still_does(build: Callable[..., Learners]) -> None:
    models = build(frozenset({"ref_logprobs"}))
    assert models.reference is not None
    start = [weight.clone() for weight in models.reference.net.parameters()]
    drift(models)
    models.follow(511)
    assert all(torch.equal(a, b) for a, b in zip(start, models.reference.net.parameters(), strict=True))


def test_a_reference_that_moved_is_put_back_whole(build: Callable[..., Learners]) -> None:
    models = build(frozenset({"ref_logprobs"}), model={"sync_ref_model": True, "ref_model_sync_steps": 1})
    assert models.reference is not None
    drift(models)
    models.follow(0)
    assert models.reference.copy is not None
    state = models.reference.copy.state_dict()
    other = build(frozenset({"ref_logprobs"}), model={"sync_ref_model": True, "ref_model_sync_steps": 1})
    assert other.reference is not None
    assert other.reference.copy is not None
    other.reference.copy.load_state_dict(state)
    for a, b in zip(models.reference.net.parameters(), other.reference.net.parameters(), strict=True):
        assert torch.equal(a, b)
