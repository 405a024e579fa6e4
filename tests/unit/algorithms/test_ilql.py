"""ILQL by hand: rewards and discounts, targets, weights of the imitation, the scale of the Gumbel loss."""

from __future__ import annotations

from math import e, exp, nan
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.algorithms.ilql import ILQL
from llmrl.batch import collate
from llmrl.ops.losses import following
from llmrl.protocols import Forward, Modelled
from llmrl.samples import Sample
from tests.builders import actions_of, changed, row


def column(row: Sample, name: str) -> list[float]:
    return actions_of(row.get(name), row.action_mask)


def test_it_asks_for_a_critic_of_three_heads() -> None:
    algorithm = ILQL(head_width=1, trunk="reference")
    assert isinstance(algorithm, Modelled)
    spec = algorithm.models()["critic"]
    assert (spec.trunk, spec.trains, spec.target_tau) == ("reference", True, 0.005)
    assert {name: head["name"] for name, head in spec.heads.items()} == {
        "v": "scalar",
        "q1": "vocabulary",
        "q2": "vocabulary",
    }


@pytest.mark.parametrize("bootstrap", [False, True])
def test_the_reward_stands_at_the_end_and_nothing_follows_it(bootstrap: bool) -> None:
    rows = [row(reward=0.5, actions=3), row(episode=1, reward=1.0, truncated=True), row(episode=2, reward=nan)]
    ended, cut = ILQL(gamma=0.9, bootstrap_truncated=bootstrap).credit(rows)
    assert column(ended, "rewards") == [0.0, 0.0, 0.5]
    assert column(ended, "discounts") == [0.9, 0.9, 0.0]
    assert column(cut, "rewards") == [0.0, 1.0]
    assert column(cut, "discounts") == [0.9, 0.9 if bootstrap else 0.0]
    assert column(ended, "weights") == pytest.approx([1 / 5] * 3)


def test_an_episode_of_two_rows_goes_on_behind_the_first() -> None:
    """Only the last row's end is the episode's: behind the first V of the state after it counts."""
    first = changed(row(reward=1.0), turn_ids=[-1, 0, 0], turn_rewards=[0.0, 1.0])
    second = changed(row(reward=1.0), turn_ids=[-1, 1, 1], turn_rewards=[0.0, 1.0])
    rows = ILQL(gamma=0.9).credit([first, second])
    assert [column(each, "rewards") for each in rows] == [[0.0, 0.0], [0.0, 1.0]]
    assert [column(each, "discounts") for each in rows] == [[0.9, 0.9], [0.9, 0.0]]


@pytest.mark.parametrize("pack", [False, True])
def test_the_state_that_follows_is_that_of_the_next_action(pack: bool) -> None:
    """An observed token lies between: V of the state behind it counts, not that before it."""
    rows = [row(action_mask=[False, True, False, True]), row(group="h", actions=1)]
    batch = collate(rows, pack=pack)
    numbers = torch.arange(batch.token_ids.numel(), dtype=torch.float32).view_as(batch.token_ids)
    found = following(numbers, numbers + 100, batch)[batch.action_mask].tolist()
    second = 5.0  # flat place of the action of the second row, in either layout
    assert found == [3.0, 103.0, 100 + second]


def forward(batch: Any, **columns: Tensor) -> Forward:
    zeros = torch.zeros_like(batch.rewards)
    heads = {name: columns.get(name, zeros) for name in ("v", "q1", "q2")}
    return Forward(
        heads=heads,
        next_heads={"v": columns.get("after", zeros)},
        head_logprobs={"q1": columns.get("spread", zeros), "q2": zeros},
        action_values=columns.get("least", zeros),
    )


def test_a_q_learns_reward_and_the_discounted_value_ahead() -> None:
    """Token 1: 0.5 * (0.2 - 0.9 * 0.6)^2 twice; token 2: 0.5 * (0.2 - 1)^2 twice."""
    batch = collate(ILQL(gamma=0.9).credit([row(reward=1.0)]), pack=False, dtype=torch.float64)
    q, v = torch.full_like(batch.rewards, 0.2), torch.tensor([[0.0, 0.4, 0.6]], dtype=torch.float64)
    loss = ILQL(gamma=0.9).critic_loss(forward(batch, q1=q, q2=q, v=v), batch)
    assert loss.metrics["loss/q"][0, 1:].tolist() == pytest.approx([0.34**2, 0.8**2])
    bounded = ILQL(gamma=0.9, huber=0.5).critic_loss(forward(batch, q1=q, q2=q, v=v), batch)
    assert bounded.metrics["loss/q"][0, 1:].tolist() == pytest.approx([0.34**2, 2 * 0.5 * (0.8 - 0.25)])


def test_targets_and_the_least_q_are_constants() -> None:
    batch = collate(ILQL().credit([row(reward=1.0)]), pack=False, dtype=torch.float64)
    v = torch.full_like(batch.rewards, 0.5).requires_grad_()
    least, after = (torch.full_like(batch.rewards, x).requires_grad_() for x in (0.7, 0.3))
    terms = ILQL(cql_weight=0.0).critic_loss(forward(batch, v=v, least=least, after=after), batch).terms
    grads = torch.autograd.grad(terms.sum(), [v, least, after], allow_unused=True)
    assert [grad is None for grad in grads] == [False, True, True]
    assert grads[0][0, 1:].tolist() == pytest.approx([-0.7 * 0.2] * 2), "by the expectile alone"


def test_awac_weighs_by_the_advantage_up_to_a_bound() -> None:
    known = row(reward=1.0, values=[0, 0.5, 0.0], action_values=[0, 1.0, 9.0])
    algorithm = ILQL(policy="awac", awac_beta=2.0, max_weight=5.0)
    assert algorithm.needs() == {"values", "action_values"}
    (credited,) = algorithm.credit([known])
    assert column(credited, "advantages") == pytest.approx([e, 5.0])
    assert algorithm.metrics([credited])["ilql/largest_share"] == pytest.approx(5 / (e + 5))
    assert column(ILQL().credit([known])[0], "advantages") == [1.0, 1.0]


@pytest.mark.parametrize(("gap", "scale"), [(0.6, exp(-1.2)), (9.0, exp(-5)), (-3.0, e)])
def test_the_largest_exponent_of_a_step_scales_it(gap: float, scale: float) -> None:
    """z = gap / 0.5, cut at 5 and at -1."""
    known = [
        row(action_values=[0, gap, gap], values=[0, 0, 0]),
        row(episode=1, action_values=[0, gap - 9, gap - 9], values=[0, 0, 0]),
    ]
    rows = ILQL(value_loss="gumbel", gumbel_beta=0.5, gumbel_clip=5.0).credit(known)
    assert [each.numbers["gumbel_scale"] for each in rows] == pytest.approx([scale] * 2)


def test_options_out_of_range_are_refused() -> None:
    wrong: dict[str, float] = {"tau": 1.0, "lam": 0.5, "gamma": 1.1, "target_tau": 0.0, "gumbel_beta": 0.0}
    for name, value in (wrong | {"huber": -1.0, "cql_weight": -0.1, "head_width": -1, "minibatches": 0}).items():
        with pytest.raises(ValueError, match=f"{name} {value}: expected"):
            ILQL(**{name: value})  # type: ignore[arg-type]
