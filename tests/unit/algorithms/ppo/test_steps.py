"""Changes over the steps, and learning."""

from __future__ import annotations

from dataclasses import replace
from math import log, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.algorithms.ppo import PPO
from llmrl.batch import collate
from llmrl.ops.heads import Head, HLGauss, Scalar
from llmrl.protocols import Forward
from llmrl.samples import Sample
from tests.builders import changed
from tests.unit.algorithms.ppo.rows import BARE, close, row, value_loss


def test_only_the_critic_learns_in_the_warm_up() -> None:
    algorithm = PPO(critic_warmup=2, num_ppo_epochs=3, minibatches=5)
    learners = [[u.model for u in algorithm.updates(step)] for step in range(4)]
    assert learners == [["critic"], ["critic"], ["critic", "policy"], ["critic", "policy"]]
    assert {(u.epochs, u.minibatches) for u in algorithm.updates(3)} == {(3, 5)}


def test_the_warm_up_ends_once_the_critic_explains_enough() -> None:
    algorithm, learners = PPO(critic_warmup=50, warmup_explained_variance=0.3), []
    for step, explained in enumerate([None, None, -0.2, 0.1, 0.35, 0.4]):
        learners.append(len(algorithm.updates(step)))
        algorithm = algorithm.adapted(step, {} if explained is None else {"explained_variance": explained})
    assert learners == [1, 1, 1, 1, 1, 2]
    assert algorithm.critic_warmup == 5
    assert len(algorithm.updates(6)) == 2


def test_the_coefficient_follows_the_divergence_after_the_warm_up() -> None:
    algorithm = PPO(kl_coef=0.2, kl_target=6.0, kl_horizon=10_000, critic_warmup=1)
    seen = []
    for step, observed in enumerate((99.0, 10.0, 3.0, 6.0)):
        algorithm = algorithm.adapted(step, {"objective/kl": observed, "objective/episodes": 256.0})
        seen.append(algorithm.kl_coef)
    assert seen == close([0.2, 0.201024, 0.19999475712, 0.19999475712])
    assert PPO().adapted(0, {"objective/kl": 99.0, "objective/episodes": 256.0}) == PPO()
    assert algorithm.adapted(4, {}) == algorithm


def test_metrics_of_a_step_worked_by_hand() -> None:
    # Values .8, .6 of a right answer, .3, .1 of a wrong one: errors .2, .4, -.3, -.1 with variance .0725 of .25.
    # Summed log-ratios .2 and -.1 + .4: mean .25.
    rows = [
        row(episode=0, reward=1.0, values=(0.8, 0.6), ref_logprobs=[-1.2, -1.0]),
        row(episode=1, reward=0.0, values=(0.3, 0.1), ref_logprobs=[-0.9, -1.4]),
    ]
    algorithm = PPO(**BARE | {"whiten_advantages": True, "kl_coef": 1e-9})
    found = algorithm.metrics(algorithm.credit(rows))
    want = {"advantages/mean": 0.05, "advantages/std": sqrt(0.0725), "returns/mean": 0.5, "explained_variance": 0.71}
    want |= {"values/mean": 0.45, "values/first": 0.55, "values/middle": 0.55, "values/last": 0.35}
    want |= {"objective/kl": 0.25, "objective/episodes": 2.0, "kl_coef": 1e-9}
    assert found == pytest.approx(want, abs=1e-6)
    equal = algorithm.credit([replace(r, reward=1.0) for r in rows])
    assert "explained_variance" not in replace(algorithm, kl_coef=0.0).metrics(equal)


# Learning


def play(table: Tensor, secret: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, list[float]]:
    """48 answers of 4 tokens, 16 for each of 3 prompts; paid if at least 3 match the secret."""
    logprobs = torch.log_softmax(table.detach(), -1).repeat_interleave(16, 0)
    said = torch.multinomial(logprobs.exp().view(-1, 5), 1, generator=generator).view(48, 4)
    paid = ((said == secret.repeat_interleave(16, 0)).sum(-1) >= 3).double()
    return said, logprobs.gather(-1, said[..., None])[..., 0], paid.tolist()


def now(model: Tensor, head: Head | None, rows: list[Sample]) -> Forward:
    """Forward pass of a table over samples whose tokens are in their ids: logits by prompt and place, or outputs."""
    which = torch.tensor([int(r.group) for r in rows])
    if head is not None:
        outputs = torch.cat([model.new_zeros(len(rows), 1, model.shape[-1]), model[which]], 1)
        return value_loss(head, outputs)
    said = torch.tensor([r.token_ids[1:].tolist() for r in rows])
    chosen = torch.log_softmax(model[which], -1).gather(-1, said[..., None])[..., 0]
    return Forward(logprobs=torch.cat([chosen.new_zeros(len(rows), 1), chosen], 1))


@pytest.mark.parametrize(
    ("options", "head", "rate"),
    [
        ({"num_ppo_epochs": 2, "lam_critic": 0.95}, Scalar(), 3.6),
        (
            {"num_ppo_epochs": 2, "length_adaptive_lambda": 1.0, "epsilon_high": 0.28, "critic_warmup": 3},
            HLGauss(),
            40.0,
        ),
        ({"num_ppo_epochs": 2, "kl_coef": 0.001, "cliprange_value": 0.5, "positive_nll_coef": 0.1}, Scalar(), 3.6),
    ],
)
@pytest.mark.parametrize("seed", [0])
def test_it_learns_a_secret(options: dict[str, Any], head: Head, rate: float, seed: int) -> None:
    """3 prompts, 4 tokens of 5 symbols, by chance 2.7 % paid; tables for policy and critic, plain gradient descent."""
    generator = torch.Generator().manual_seed(seed)
    secret = torch.randint(5, (3, 4), generator=generator)
    models = {"policy": torch.zeros(3, 4, 5), "critic": torch.zeros(3, 4, head.outputs)}
    algorithm, paid = PPO(**{"kl_coef": 0.0, "minibatches": 1} | options), []
    for step in range(60):
        said, logprobs, rewards = play(models["policy"], secret, generator)
        values = head.values(models["critic"]).repeat_interleave(16, 0)
        rows = [
            changed(
                row(str(i // 16), i % 16, rewards[i], tuple(values[i].tolist()), old_logprobs=logprobs[i].tolist()),
                token_ids=[0, *said[i].tolist()],
                ref_logprobs=[0.0] + [log(0.2)] * 4,
                correct=rewards[i] > 0,
            )
            for i in range(48)
        ]
        paid.append(sum(rewards) / 48)
        credited = algorithm.credit(rows)
        batch = collate(credited, pack=False)
        for update in algorithm.updates(step):
            critic = update.model == "critic"
            for _ in range(update.epochs):
                leaf = models[update.model].clone().requires_grad_()
                terms = update.loss(now(leaf, head if critic else None, credited), batch).terms
                weights = batch.value_weights if critic else batch.weights
                (gradient,) = torch.autograd.grad((terms * weights).sum(), leaf)
                models[update.model] -= (rate if critic else 20.0) * gradient
    assert sum(paid[:3]) / 3 < 0.3
    assert sum(paid[-5:]) / 5 > 0.95
