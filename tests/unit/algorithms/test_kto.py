from __future__ import annotations

from math import nan
from typing import Any

import pytest
import torch

from llmrl.algorithms.kto import KTO
from llmrl.batch import collate
from llmrl.errors import ColumnError, RecipeError
from llmrl.protocols import Algorithm, Compares, Forward, Measured
from llmrl.samples import Sample
from tests.builders import changed, row


def answer(group: str, good: bool, old: float = -1.0, ref: float = -1.0, **facts: Any) -> Sample:
    facts |= {"old_logprobs": (0.0, old, old), "ref_logprobs": (0.0, ref, ref)}
    return row(group, reward=float(good), role="chosen" if good else "rejected", **facts)


def mismatched(old: float, ref: float = -1.0) -> Sample:
    return changed(answer("x", True, old, ref), role="mismatched")


def test_it_asks_about_answers_behind_other_problems() -> None:
    assert isinstance(KTO(), Algorithm)
    assert isinstance(KTO(), Measured)
    assert isinstance(KTO(), Compares)
    rows = [
        changed(answer(name, True), token_ids=[prompt, 7, 8 + i], turn_ids=[-1, 0, 0])
        for i, (name, prompt) in enumerate((("a", 1), ("b", 2), ("c", 3)))
    ]
    made = KTO().compared(rows)
    assert [one.token_ids.tolist() for one in made] == [[2, 7, 8], [3, 7, 9], [1, 7, 10]]
    assert {one.role for one in made} == {"mismatched"}
    assert [set(one.columns) for one in made] == [{"token_ids", "turn_ids"}] * 3, "no column of another text"
    assert [one.token_ids.tolist() for one in KTO().compared(rows[::-1])] == [[2, 7, 8], [3, 7, 9], [1, 7, 10]]
    assert KTO(loss_type="apo_zero_unpaired").compared(rows) == []
    assert KTO().compared([]) == []


def test_a_single_problem_has_no_others() -> None:
    with pytest.raises(RecipeError, match="answers to a single problem"):
        KTO().compared([answer("a", True), answer("a", False)])


def test_the_reference_point_is_of_the_whole_step_and_never_below_zero() -> None:
    # Sums of two tokens: log-ratios 2 * 0.5 = 1 and 2 * -0.3 = -0.6; their mean 0.2.
    rows = [answer("a", True), answer("b", False), mismatched(-0.5), mismatched(-1.3)]
    good, bad = KTO(undesirable_weight=1.5).credit(rows)
    assert good.numbers["reference_point"] == bad.numbers["reference_point"] == pytest.approx(0.2)
    assert good.advantages.tolist() == [0.0, 1.0, 1.0]
    assert bad.advantages.tolist() == [0.0, -1.5, -1.5]
    assert good.weights.tolist() == [0.0, 0.25, 0.25]
    assert KTO().credit([*rows[:2], mismatched(-1.3)])[0].numbers["reference_point"] == 0.0
    metrics = KTO().metrics([good, bad])
    assert metrics["kto/reference_point"] == pytest.approx(0.2)
    assert metrics["kto/answers"] == 2.0
    assert metrics["kto/balance"] == pytest.approx(1 / 1.5)


def test_without_mismatched_answers_it_stops_and_takes_no_zero() -> None:
    with pytest.raises(RecipeError, match="no mismatched answers"):
        KTO().credit([answer("a", True)])
    assert KTO().credit([]) == []


def test_good_and_bad_by_role_verdict_or_reward() -> None:
    rows = [
        answer("a", True),
        changed(answer("b", True), role=None, correct=False),
        changed(answer("c", True), role=None, correct=None, reward=0.5),
        changed(answer("d", True), reward=nan),
    ]
    credited = KTO(loss_type="apo_zero_unpaired", desirable_above=0.7).credit(rows)
    assert [float(one.advantages[1]) for one in credited] == [1.0, -1.0, -1.0]


def test_the_loss_saturates_on_both_sides() -> None:
    algorithm = KTO(beta=1.0)
    batch = collate(algorithm.credit([answer("a", True), answer("b", False), mismatched(-1.0)]), pack=False)
    values = {}
    for name, shift in (("far up", 30.0), ("at the reference", 0.0), ("far down", -30.0)):
        new = (batch.ref_logprobs + shift).requires_grad_()
        loss = algorithm.loss(Forward(logprobs=new), batch)
        (slope,) = torch.autograd.grad((loss.terms * batch.weights).sum(), new)
        values[name] = [loss.terms[0, 1].item(), loss.terms[1, 1].item(), slope.abs().max().item()]
    assert values["far up"] == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)
    assert values["at the reference"] == pytest.approx([0.5, 0.5, 0.125])
    assert values["far down"] == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_a_batch_without_the_point_is_an_error() -> None:
    (good,) = KTO(loss_type="apo_zero_unpaired").credit([answer("a", True)])
    batch = collate([good.assign(weights=1.0), answer("b", True).assign(advantages=1.0, weights=1.0)], pack=False)
    with pytest.raises(ColumnError, match="reference_point"):
        KTO().loss(Forward(logprobs=batch.ref_logprobs), batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta 0.0: expected above 0"),
        ({"desirable_weight": -1.0}, "desirable_weight -1.0"),
        ({"undesirable_weight": nan}, "undesirable_weight nan"),
        ({"minibatches": 0}, "minibatches 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KTO(**options)
