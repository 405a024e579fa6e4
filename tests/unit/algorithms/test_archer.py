"""ArCHer by hand: transitions of turns, averages, what each part learns from, losses."""

from __future__ import annotations

from dataclasses import replace
from math import e, exp, nan
from typing import Any

import pytest
import torch

from llmrl.algorithms.archer import ArCHer
from llmrl.batch import collate
from llmrl.errors import RecipeError
from llmrl.ops.turn_terms import at_turn_start, turn_bounds, turn_sum
from llmrl.protocols import Forward, Modelled
from llmrl.samples import Sample
from tests.builders import actions_of, sample

TWO = [-1, 0, 0, -1, 1]
"""A prompt, a turn of two tokens, an observation, a turn of one."""


def played(turn_ids: list[int] = TWO, **given: Any) -> Sample:
    """V before and Q behind each token are tenths of its place, and as much above 1."""
    places = range(len(turn_ids))
    columns = {"values": [t / 10 for t in places], "next_values": [1 + t / 10 for t in places]}
    facts = {"reward": 0.5, "turn_rewards": [-1.0, 0.0]} | given
    return sample(token_ids=list(places), turn_ids=turn_ids, **columns | facts)


def proposal(**given: Any) -> Sample:
    facts = {"origin": "proposal", "group": "p", "reward": nan, "turn_rewards": [0.0]} | given
    return played([-1, 0, 0], **facts)


def column(row: Sample, name: str) -> list[float]:
    return actions_of(row.get(name), row.action_mask)


def test_it_asks_for_two_q_and_two_v_that_a_copy_follows() -> None:
    algorithm = ArCHer(token_baseline=True, head_width=2, trunk="reference")
    assert isinstance(algorithm, Modelled)
    spec = algorithm.models()["critic"]
    assert list(spec.heads) == ["q1", "v1", "q2", "v2", "w"]
    assert all(head == {"name": "scalar", "width": 2} for head in spec.heads.values())
    assert (spec.target_tau, spec.target, ArCHer().models()["critic"].target) == (0.1, "heads", "model")
    assert algorithm.needs() == {"values", "next_values", "baselines"}
    assert ArCHer(actor_loss="pg_kl").needs() == {"values", "next_values", "ref_logprobs"}


def test_a_reward_stands_at_the_end_of_its_turn() -> None:
    """-1 of the first turn; the second has 0 and what the episode earned besides: 0.5 - (-1) = 1.5."""
    (row,) = ArCHer(gamma=0.9).credit([played()])
    assert column(row, "rewards") == [0.0, -1.0, 1.5]
    assert column(row, "discounts") == [0.0, 0.9, 0.0]


def test_an_advantage_is_q_behind_the_turn_less_v_before_it() -> None:
    """1.2 - 0.1 of the first turn, for both of its tokens; 1.4 - 0.4 of the second."""
    (row,) = ArCHer().credit([played()])
    assert column(row, "advantages") == pytest.approx([1.1, 1.1, 1.0])
    (row,) = ArCHer(actor_loss="awr", inv_temp=2.0, max_weight=8.0).credit([played()])
    assert column(row, "advantages") == pytest.approx([8.0, 8.0, e**2])
    (row,) = ArCHer(token_baseline=True).credit([played(baselines=[0.0, 0.25, 0.5, 0.0, -1.0])])
    assert column(row, "advantages") == pytest.approx([0.85, 0.6, 2.0])
    assert column(row, "returns") == pytest.approx([1.1, 1.1, 1.0])


def test_each_part_averages_over_its_own_turns() -> None:
    """Two fresh turns (3 tokens), two replayed (3), one proposed (2): M is 8; Q learns from 4, V and policy from 3."""
    rows = ArCHer().credit([played(), played(group="r", origin="replay"), proposal()])
    fresh, replayed, proposed = rows
    assert [column(row, "value_weights") for row in rows] == [[1 / 8] * 3, [1 / 8] * 3, [1 / 8] * 2]
    assert column(fresh, "q_weights") == column(replayed, "q_weights") == [0.0, 2.0, 2.0]
    assert column(proposed, "q_weights") == [0.0, 0.0]
    assert column(fresh, "v_weights") == pytest.approx([0.0, 8 / 3, 8 / 3])
    assert column(proposed, "v_weights") == pytest.approx([0.0, 8 / 3])
    assert column(replayed, "v_weights") == [0.0] * 3
    assert [column(row, "weights") for row in rows] == [[1 / 3] * 3, [0.0] * 3, [1 / 3] * 2]
    update = ArCHer(critic_warmup=0).updates(0)[1]
    assert update.chosen(rows) == [fresh, proposed]


def test_implicit_values_and_imitation_learn_from_answered_turns() -> None:
    algorithm = ArCHer(v_target="expectile", actor_loss="awr")
    fresh, replayed, proposed = algorithm.credit([played(), played(group="r", origin="replay"), proposal()])
    assert column(fresh, "v_weights") == column(replayed, "v_weights") == [0.0, 2.0, 2.0]
    assert column(proposed, "v_weights") == [0.0, 0.0]
    assert column(replayed, "weights") == [0.25] * 3
    assert algorithm.updates(20)[1].chosen([fresh, replayed, proposed]) == [fresh, replayed]
    assert (algorithm.samples_policy, ArCHer().samples_policy) == (False, True)


@pytest.mark.parametrize("status", ["max_turns", "max_tokens", "cut"])
def test_the_last_turn_before_a_limit_teaches_q_nothing(status: Any) -> None:
    """No state follows it. V of it is known, and the policy learns from it."""
    (row,) = ArCHer().credit([played(status=status, truncated=True)])
    assert column(row, "q_weights") == [0.0, 3.0, 0.0]
    assert column(row, "v_weights") == [0.0, 1.5, 1.5]
    assert column(row, "weights") == [0.5] * 3


def test_an_episode_of_two_samples_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"group g, episode 0: it takes 2 samples.*only appends"):
        ArCHer().credit([played([-1, 0]), played([-1, 1])])


def test_an_unjudged_episode_teaches_nothing() -> None:
    assert ArCHer().credit([played(reward=nan)]) == []
    assert len(ArCHer().credit([played(reward=nan), proposal()])) == 1
    assert ArCHer().credit([]) == []


def test_padding_counts_in_the_released_mean_of_the_baseline() -> None:
    """Turns of 2, 1 and 2 tokens: 5 tokens, or three turns of 2 are 6 cells. M is 5."""
    rows = [played(baselines=[0.0] * 5), proposal(baselines=[0.0] * 3)]
    for over, cells in (("tokens", 5), ("cells", 6)):
        algorithm = ArCHer(token_baseline=True, baseline_over=over)  # type: ignore[arg-type]
        assert [row.numbers["baseline_share"] for row in algorithm.credit(rows)] == [5 / cells] * 2


def test_the_critic_learns_alone_at_first() -> None:
    algorithm = ArCHer(critic_warmup=2, critic_steps=7, actor_steps=3, actor_epochs=2)
    assert [[update.model for update in algorithm.updates(step)] for step in (0, 1, 2)] == [
        ["critic"],
        ["critic"],
        ["critic", "policy"],
    ]
    critic, policy = algorithm.updates(2)
    assert (critic.minibatches, policy.epochs, policy.minibatches) == (7, 2, 3)


@pytest.mark.parametrize("pack", [False, True])
def test_a_ratio_of_a_turn_is_that_of_its_tokens_together(pack: bool) -> None:
    """0.1 + 0.2 in the first turn; the clip at 1.2 stops it, as its advantage is above 0. 0.05 in the second."""
    algorithm = ArCHer(actor_loss="ppo_clip", ratio_level="turn")
    rows = algorithm.credit([played(), proposal()])
    batch = collate(rows, pack=pack, dtype=torch.float64)
    new = torch.zeros(batch.token_ids.shape, dtype=torch.float64)
    new[0, [1, 2, 4]] = torch.tensor([0.1, 0.2, 0.05], dtype=torch.float64)
    new.requires_grad_()
    terms = algorithm.loss(Forward(logprobs=new), batch).terms
    assert terms[0, 2].item() == pytest.approx(-1.2 * 1.1)
    assert terms[0, 4].item() == pytest.approx(-exp(0.05))
    (slope,) = torch.autograd.grad((terms * batch.weights).sum(), new)
    assert slope[0, [1, 2]].tolist() == [0.0, 0.0]
    assert slope[0, 4].item() == pytest.approx(-exp(0.05) / 3)


@pytest.mark.parametrize("pack", [False, True])
def test_numbers_of_turns_stand_at_all_of_their_tokens(pack: bool) -> None:
    batch = collate([played(), proposal()], pack=pack)
    numbers = torch.arange(batch.token_ids.numel(), dtype=torch.float32).view(batch.token_ids.shape)
    found = at_turn_start(numbers, batch)[batch.action_mask].tolist()
    first, second = numbers[0, 1].item(), numbers[0, 4].item()
    third = numbers[0, 6].item() if pack else numbers[1, 1].item()
    assert found == [first, first, second, third, third]
    sums = turn_sum(torch.ones_like(numbers), batch)[batch.action_mask].tolist()
    assert sums == [2.0, 2.0, 1.0, 2.0, 2.0]


def test_a_sample_without_actions_has_no_turn() -> None:
    row = played([-1, -1])
    assert [len(places) for places in turn_bounds(row.turn_ids)] == [0, 0]
    assert ArCHer().credit([row]) == []


def test_metrics_compare_q_with_the_returns_that_came() -> None:
    """Returns with gamma 0.5 are -1 + 0.5 * 1.5 = -0.25 and 1.5; Q is 1.2 and 1.4: 1.45 and -0.1 above them."""
    algorithm = ArCHer(gamma=0.5)
    rows = algorithm.credit([played(), played(group="r", origin="replay"), played(group="c", status="max_turns")])
    found = algorithm.metrics(rows)
    assert found["returns/mean"] == pytest.approx(0.625)
    assert found["overestimate/mean"] == pytest.approx(0.675)
    assert found["advantages/mean"] == pytest.approx(1.05)
    assert found["advantages/std"] == pytest.approx(0.05)
    assert found["archer/cut"] == 0.5
    errors, spread = (1.1 + 0.35) / 2, 0.875**2  # returns less V are -0.35 and 1.1
    assert found["explained_variance"] == pytest.approx(1 - errors**2 / spread)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"gamma": 0.0}, "gamma 0.0"),
        ({"expectile": 1.0}, "expectile 1.0"),
        ({"target_tau": 1.1}, "target_tau 1.1"),
        ({"critic_steps": 0}, "critic_steps 0"),
        ({"kl_coef": 2.0}, "kl_coef 2.0"),
        ({"token_baseline": True, "actor_loss": "awr"}, "token_baseline"),
        ({"ratio_level": "turn"}, "ratio_level turn"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        replace(ArCHer(), **options)
