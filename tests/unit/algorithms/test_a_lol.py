from __future__ import annotations

from math import exp, nan
from typing import Any

import pytest
import torch

from llmrl.algorithms.a_lol import ALoL, priorities
from llmrl.batch import collate
from llmrl.errors import RecipeError
from llmrl.protocols import Algorithm, Forward, Measured
from llmrl.samples import Sample
from tests.builders import row


def answer(group: str, reward: float, value: float = 0.0, actions: int = 2, **columns: Any) -> Sample:
    return row(group=group, reward=reward, actions=actions, **columns).with_numbers(value=value)


def test_it_is_an_algorithm_with_metrics() -> None:
    assert isinstance(ALoL(), Algorithm)
    assert isinstance(ALoL(), Measured)
    assert ALoL().needs() == {"ref_logprobs"}
    assert ALoL(variant="a_lol_ref_free").needs() == frozenset()
    assert ALoL(variant="gold", baseline="critic").needs() == frozenset(), "rewards have no baseline"
    assert ALoL(baseline="critic").needs() == {"ref_logprobs", "values"}
    assert [update.model for update in ALoL(baseline="critic").updates(0)] == ["critic", "policy"]
    assert ALoL(baseline="group").least_generations == 2


def test_answers_below_the_value_are_left_out() -> None:
    rows = [answer("a", 0.9, 0.5), answer("b", 0.4, 0.6), answer("c", 0.7, 0.5), answer("d", nan, 0.1)]
    credited = ALoL().credit(rows)
    assert [r.group for r in credited] == ["a", "c"]
    assert credited[0].advantages.tolist() == pytest.approx([0.0, 0.4, 0.4])
    assert [float(r.weights[1]) for r in credited] == pytest.approx([2 / 3, 1 / 3]), "by their advantage"
    metrics = ALoL().metrics(credited)
    assert metrics["a_lol/answers"] == 2.0
    assert metrics["advantages/mean"] == pytest.approx(0.3)
    assert ALoL().metrics(ALoL().credit([])) == {"a_lol/answers": 0.0}


def test_nothing_beats_the_value() -> None:
    assert ALoL().credit([answer("a", 0.0, 0.5), answer("b", 0.5, 0.5)]) == []


def test_a_missing_value_is_an_error_and_not_zero() -> None:
    with pytest.raises(RecipeError, match=r"group g: it has no number `value`.*baseline to critic or group"):
        ALoL().credit([row(reward=1.0)])


def test_the_group_is_a_baseline() -> None:
    rows = [row(episode=i, reward=reward) for i, reward in enumerate((1.0, 0.0, 0.0))]
    (credited,) = ALoL(baseline="group", variant="a_lol_ref_free").credit(rows)
    assert credited.advantages.tolist() == [0.0, 1.0, 1.0], "the mean of the others is 0"


def test_a_baseline_of_siblings_needs_siblings() -> None:
    with pytest.raises(RecipeError, match="none of the step's 2 problems has two answers"):
        ALoL(baseline="group").credit([row(group=name, reward=1.0) for name in ("a", "b")])


def test_a_critic_learns_the_reward_at_the_first_token() -> None:
    rows = [
        row(group=g, reward=r, values=(9.0, v, 7.0), ref_logprobs=(0, -1, -1))
        for g, r, v in (("a", 1.0, 0.25), ("b", 0.0, 0.5))
    ]
    good, bad = ALoL(baseline="critic").credit(rows)
    assert good.advantages.tolist() == [0.0, 0.75, 0.75]
    assert bad.weights.tolist() == [0.0, 0.0, 0.0]
    assert good.value_weights.tolist() == bad.value_weights.tolist() == [0.0, 0.5, 0.0]
    assert bad.returns.tolist() == [0.0, 0.0, 0.0]
    assert ALoL(baseline="critic").metrics([good, bad])["a_lol/answers"] == 1.0


def test_importance_weights_are_cut_and_constant() -> None:
    # S = -1.5 against -3: exp(1.5) is cut to 1.9; token by token exp(1.25) is cut, exp(0.25) is not.
    rows = [answer("a", 1.0, ref_logprobs=(0.0, -1.5, -1.5))]
    new = torch.tensor([[0.0, -0.25, -1.25]], dtype=torch.float64, requires_grad=True)
    slopes = {}
    for variant in ("a_lol", "a_lol_seq"):
        algorithm = ALoL(variant=variant)  # type: ignore[arg-type]
        batch = collate(algorithm.credit(rows), pack=False, dtype=torch.float64)
        loss = algorithm.loss(Forward(logprobs=new), batch)
        (slope,) = torch.autograd.grad((loss.terms * batch.weights).sum(), new)
        slopes[variant] = slope[0, 1:].tolist()
    assert slopes["a_lol"] == pytest.approx([-1.9, -1.9])
    assert slopes["a_lol_seq"] == pytest.approx([-1.9, -exp(0.25)])


def test_the_kl_variant_pushes_down_what_gains_less_than_beta() -> None:
    algorithm = ALoL(variant="a_lol_kl", beta=0.1, priority="none")
    rows = [answer("a", 0.05, ref_logprobs=(0.0, -1.0, -1.0)), answer("b", 0.5, ref_logprobs=(0.0, -1.0, -1.0))]
    batch = collate(algorithm.credit(rows), pack=False, dtype=torch.float64)
    new = batch.sampled_logprobs.clone().requires_grad_()
    (slope,) = torch.autograd.grad((algorithm.loss(Forward(logprobs=new), batch).terms * batch.weights).sum(), new)
    assert slope[:, 1].tolist() == pytest.approx([(0.1 - 0.05) / 2, (0.1 - 0.5) / 2])


def test_shares_of_the_objective() -> None:
    gains = [0.35, -0.2, 0.2, 0.05, -0.01]
    assert priorities(gains, "none") == pytest.approx([0.2] * 5)
    assert priorities(gains, "good_random") == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3, 0])
    assert priorities(gains, "good_priority") == pytest.approx([7 / 12, 0, 1 / 3, 1 / 12, 0])
    assert priorities(gains, "all_priority") == pytest.approx([x / 1.39 for x in (0.55, 0.0, 0.4, 0.25, 0.19)])
    assert priorities([-1.0], "good_priority") == [0.0]
    assert priorities([], "all_priority") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 1.5}, "epsilon 1.5: expected from 0 to 1"),
        ({"beta": -1.0}, "beta -1.0: expected at least 0"),
        ({"gold_floor": 2.0}, "gold_floor 2.0"),
        ({"minibatches": 0}, "minibatches 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALoL(**options)
