"""The losses of policy and critic, worked by hand."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch

from llmrl.algorithms.ppo import PPO
from llmrl.batch import Batch, collate
from llmrl.errors import RecipeError
from llmrl.ops.heads import HEADS, Attention, Capped, Head, Scalar
from llmrl.protocols import Forward
from tests.builders import changed
from tests.unit.algorithms.ppo.rows import BARE, columns, row, value_loss


def tokens(old: list[float], advantages: list[float], **kept: Any) -> Batch:
    base = row(values=(0.0,) * len(old), old_logprobs=old, **kept)
    return collate([base.assign(advantages=[0.0, *advantages], weights=1 / len(old))], pack=False)


@pytest.mark.parametrize(
    ("options", "terms", "gradient"),
    [
        ({}, [-1.2, -0.5, -1.1, 1.5, 0.8, 5.0], [0, -0.5, -1.1, 1.5, 0, 5]),
        ({"epsilon_high": 0.28}, [-1.28, -0.5, -1.1, 1.5, 0.8, 5.0], [0, -0.5, -1.1, 1.5, 0, 5]),
        ({"delta": 3.0}, [-1.2, -0.5, -1.1, 1.5, 0.8, 3.0], [0, -0.5, -1.1, 1.5, 0, 0]),
    ],
)
def test_clipping_worked_by_hand(options: dict[str, Any], terms: list[float], gradient: list[float]) -> None:
    ratios, advantages = [1.5, 0.5, 1.1, 1.5, 0.5, 5.0], [1.0, 1.0, 1.0, -1.0, -1.0, -1.0]
    batch = tokens([-1.0] * 6, advantages)
    now = torch.tensor([[0.0, *(log(r) - 1.0 for r in ratios)]], requires_grad=True)
    loss = PPO(**BARE, **options).loss(Forward(logprobs=now), batch)
    assert loss.terms[0, 1:].tolist() == pytest.approx(terms, abs=1e-6)
    assert torch.autograd.grad(loss.terms.sum(), now)[0][0, 1:].tolist() == pytest.approx(gradient, abs=1e-5)
    assert loss.metrics["clip_ratio/region_mean"][0, 1:].tolist() == [1, 0, 0, 0, 1, 0]
    assert loss.metrics["policy/approxkl_avg"][0, 1:].tolist() == pytest.approx([log(r) ** 2 / 2 for r in ratios])
    assert all(not values.requires_grad for values in loss.metrics.values())


def test_the_engine_is_corrected_worked_by_hand() -> None:
    # old/sampled .96, 3 (cut to 2), 1; new/old 1.25, 1.1, 2/3.
    probabilities = {"sampled": (0.5, 0.1, 0.9), "old": (0.48, 0.3, 0.9), "new": (0.6, 0.33, 0.6)}
    column = {name: [0.0, *(log(x) for x in p)] for name, p in probabilities.items()}
    base = changed(row(values=(0.0,) * 3, old_logprobs=column["old"][1:]), sampled_logprobs=column["sampled"])
    batch = collate([base.assign(advantages=[0.0, 1.0, 1.0, -1.0], weights=1 / 3)], pack=False)
    loss = PPO(**BARE, epsilon_high=0.28).loss(Forward(logprobs=torch.tensor([column["new"]])), batch)
    assert loss.terms[0, 1:].tolist() == pytest.approx([-1.2, -2.2, 0.8], abs=1e-6)


def test_divergence_and_entropy_in_the_loss() -> None:
    # Ratio 1, advantage 0: beta .1 times k3 (.0231436, .0945349) or k2 (.0248965, .0822010), less .01 * .5.
    old, ref = [log(0.5), log(0.2)], [log(0.4), log(0.3)]
    for kind, want in (("k3", [0.023143551314, 0.094534891892]), ("k2", [0.024896522207, 0.082200976947])):
        algorithm = PPO(kl_coef=0.1, kl_in_reward=False, kl_estimator=kind, entropy_coef=0.01)  # type: ignore[arg-type]
        batch = tokens(old, [0.0, 0.0], ref_logprobs=ref)
        new = Forward(logprobs=torch.tensor([[0.0, *old]]), entropy=torch.full((1, 3), 0.5))
        loss = algorithm.loss(new, batch)
        assert loss.terms[0, 1:].tolist() == pytest.approx([0.1 * w - 0.005 for w in want], abs=1e-7)
        assert loss.metrics["kl"][0, 1:].tolist() == pytest.approx([0.023143551314, 0.094534891892], abs=1e-6)
    assert [update.entropy_grad for update in algorithm.updates(0)] == [False, True]
    assert [update.entropy_grad for update in PPO().updates(0)] == [False, False]


def test_right_answers_are_also_imitated() -> None:
    # Right: 2 + 3 tokens with -log p .693, 1.386, .223, .693, 2.303: mean 1.0596635. All advantages -.25, ratio 1.
    right = [[log(0.5), log(0.25)], [log(0.8), log(0.5), log(0.1)]]
    rows = [
        row(episode=i, reward=1.0, values=(0.0,) * len(p), old_logprobs=p, correct=True) for i, p in enumerate(right)
    ]
    rows.append(row(episode=2, values=(0.0,), old_logprobs=[-7.0], correct=False))
    algorithm = PPO(**BARE, positive_nll_coef=0.1)
    credited = [changed(r, advantages=[0.0] + [-0.25] * r.actions) for r in algorithm.credit(rows)]
    assert columns(credited, "nll_weights") == [[0.2] * 2, [0.2] * 3, [0.0]]
    for pack in (False, True):
        batch = collate(credited, pack)
        terms = algorithm.loss(Forward(logprobs=batch.old_logprobs), batch).terms
        objective = torch.where(batch.action_mask, terms * batch.weights, 0.0).sum().item()
        assert objective == pytest.approx(0.25 + 0.1 * 1.0596634733096073, abs=1e-6)
    wrong = [replace(r, correct=False) for r in rows]
    assert columns(algorithm.credit(wrong), "nll_weights") == [[0.0] * 2, [0.0] * 3, [0.0]]
    with pytest.raises(RecipeError, match="no reward judged right and wrong"):
        algorithm.credit([replace(r, correct=None) for r in rows])


# The critic's loss


def targets(old: list[float], returns: list[float]) -> Batch:
    base = row(values=tuple(old)).assign(returns=[0.0, *returns], old_values=[0.0, *old], weights=1 / len(old))
    return collate([base], pack=False)


def test_value_clipping_worked_by_hand() -> None:
    # .9 against 1 from .5: (.1)^2 without, (.7 - 1)^2 = .09 with the clip, the larger; .1: .81; .5 against .2: .09.
    batch, now = targets([0.5] * 3, [1.0, 1.0, 0.2]), torch.tensor([[[0.0], [0.9], [0.1], [0.5]]])
    loss = PPO(**BARE, cliprange_value=0.2).value_loss(value_loss(Scalar(), now), batch)
    assert (2 * loss.terms[0, 1:]).tolist() == pytest.approx([0.09, 0.81, 0.09])
    assert (loss.terms * batch.value_weights).sum().item() == pytest.approx(0.165)
    assert loss.metrics["clip_ratio"][0, 1:].tolist() == [1, 0, 0]
    plain = PPO(**BARE).value_loss(value_loss(Scalar(), now), batch)
    assert (plain.terms * batch.value_weights).sum().item() == pytest.approx(0.15166666666666667)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_the_critics_own_affair(name: str) -> None:
    head: Head = HEADS[name]()
    batch, outputs = targets([0.5] * 3, [1.0, 1.0, 0.2]), torch.randn(1, 4, head.outputs)
    loss = PPO(**BARE).value_loss(value_loss(head, outputs), batch)
    assert torch.equal(loss.terms, head.terms(outputs, batch.returns))
    if not isinstance(head, Scalar | Attention | Capped):  # whose own loss is half a squared error, too
        with pytest.raises(RecipeError, match="cliprange_value"):
            PPO(**BARE, cliprange_value=0.2).value_loss(value_loss(head, outputs), batch)
