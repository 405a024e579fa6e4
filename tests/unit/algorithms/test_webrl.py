"""WebRL by hand: advantages across samples, what teaches, weights, losses."""

from __future__ import annotations

from dataclasses import replace
from math import log, nan
from typing import Any

import pytest
import torch

from llmrl.algorithms.webrl import WebRL
from llmrl.batch import collate
from llmrl.ops.webrl import binarised, raw_advantages
from llmrl.protocols import Forward, Modelled
from llmrl.samples import Sample
from tests.builders import actions_of, sample

TWO = [-1, 0, 0, -1, 1]
"""A prompt, a turn of two tokens, an observation, a turn of one."""
EVERY = WebRL(replay_low=0.0, replay_high=1.0)


def played(turn_ids: list[int] = TWO, values: tuple[float, ...] = (), **given: Any) -> Sample:
    """V before each token is a tenth of its place unless given; the reference's log-probability is -0.5."""
    places = range(len(turn_ids))
    columns: dict[str, Any] = {"values": list(values) or [t / 10 for t in places]}
    columns |= {"ref_logprobs": [-0.5] * len(turn_ids), "old_logprobs": [log(0.7)] * len(turn_ids)}
    facts = {"reward": 1.0, "turn_rewards": [0.0, 0.0]} | given
    return sample(token_ids=list(places), turn_ids=turn_ids, **columns | facts)


def column(row: Sample, name: str) -> list[float]:
    return actions_of(row.get(name), row.action_mask)


def test_it_asks_for_two_probabilities_of_success() -> None:
    assert isinstance(EVERY, Modelled)
    spec = WebRL(head_width=2).models()["critic"]
    assert spec.heads == {name: {"name": "bernoulli", "width": 2} for name in ("v1", "v2")}
    new = Forward(heads={"v1": torch.tensor([[0.2, 0.9]]), "v2": torch.tensor([[0.4, 0.6]])})
    assert spec.columns["values"](new).tolist() == [[pytest.approx(0.2), pytest.approx(0.6)]]
    assert EVERY.needs() == {"values", "ref_logprobs"}
    assert WebRL().needs() == {"values", "ref_logprobs", "old_logprobs"}


def test_half_of_the_next_state_and_half_of_the_outcome() -> None:
    """V 0.1 and 0.4. Success: 0.5 * 0.3 + 0.5 * 0.9 and 0.6; failure: 0.5 * 0.3 - 0.5 * 0.1 and -0.4."""
    (good,), (bad,) = EVERY.credit([played()]), EVERY.credit([played(reward=0.0)])
    assert column(good, "advantages") == pytest.approx([0.6, 0.6, 0.6])
    assert column(bad, "advantages") == pytest.approx([0.1, 0.1, -0.4])
    assert (column(good, "returns"), column(bad, "returns")) == ([1.0] * 3, [0.0] * 3)
    (near,) = WebRL(lam=1.0).credit([played()])
    assert column(near, "advantages") == pytest.approx([0.3, 0.3, 0.6])


def test_the_next_state_may_begin_another_sample() -> None:
    """The same episode in two samples, in either order: V of the second turn is 0.4."""
    parts = [played([-1, 0, 0]), played([-1, -1, 1], values=(0.0, 0.0, 0.4))]
    for rows in (parts, parts[::-1]):
        first, second = EVERY.credit(rows)
        assert column(first, "advantages") == pytest.approx([0.6, 0.6])
        assert column(second, "advantages") == pytest.approx([0.6])
        assert (column(first, "weights"), column(second, "weights")) == ([0.0, 0.5], [0.5])
        assert (column(first, "value_weights"), column(second, "value_weights")) == ([0.5, 0.0], [0.5])


def test_a_branch_may_lie_in_a_sample_of_its_own() -> None:
    """Turns 0, 1, 3 in a sample, and 2 in another: the state behind turn 1 is that before turn 2."""
    trunk = played([-1, 0, 1, 3], values=(0.0, 0.2, 0.4, 0.8))
    branch = played([-1, 2], values=(0.0, 0.6))
    made = WebRL(lam=1.0, replay_low=0.0, replay_high=1.0).credit([branch, trunk])
    found = {turn: a for row in made for turn, a in zip(row.turn_ids.tolist(), row.advantages.tolist(), strict=True)}
    assert [found[turn] for turn in range(4)] == pytest.approx([0.2, 0.2, 0.2, 0.2])


def test_a_turn_counts_once() -> None:
    """Three turns: the policy's term stands at a turn's last token, the critic's at its first."""
    rows = EVERY.credit([played(), played([-1, 0, 0], group="h")])
    assert [column(row, "weights") for row in rows] == [pytest.approx([0, 1 / 3, 1 / 3]), pytest.approx([0, 1 / 3])]
    first, second = (column(row, "value_weights") for row in rows)
    assert first == pytest.approx([1 / 3, 0, 1 / 3])
    assert second == pytest.approx([1 / 3, 0])


def test_only_instructive_turns_of_successes_are_replayed() -> None:
    """Means of 0.98, 0.74 and 0.30 of the tokens; 0.95 is in, 0.5 is out."""
    means = {"a": 0.98, "b": 0.74, "c": 0.30, "d": 0.95, "e": 0.5}
    fresh = [played([-1, 0, 0], group=f"f{i}", reward=0.0) for i in range(3)]
    stored = [played([-1, 0, 0], group=name, origin="replay", old_logprobs=[log(p)] * 3) for name, p in means.items()]
    failed = played([-1, 0, 0], group="b2", origin="replay", reward=0.0)
    kept = WebRL(replay_high=0.95 + 1e-12).credit([*fresh, *stored, failed])
    assert [row.group for row in kept] == ["f0", "f1", "f2", "b", "d"]
    assert column(kept[0], "weights") == [0.0, 0.2]


def test_the_mean_probability_is_of_each_turn() -> None:
    """The first turn has 0.99, the second 0.7: the second teaches, and the first still has its place before it."""
    old = [0.0, log(0.99), log(0.99), 0.0, log(0.7)]
    (row,) = WebRL().credit([played(origin="replay", old_logprobs=old)])
    assert column(row, "weights") == [0.0, 0.0, 1.0]
    assert column(row, "value_weights") == [0.0, 0.0, 1.0]


def test_at_most_twice_the_fresh_turns_are_replayed_in_whatever_order_they_come() -> None:
    stored = [played([-1, 0, 0], group=f"r{i}", origin="replay") for i in range(9)]
    rows = WebRL().credit([played([-1, 0, 0]), *stored])
    assert len(rows) == 3
    again = WebRL().credit([*stored[::-1], played([-1, 0, 0])])
    assert {row.group for row in again} == {row.group for row in rows}
    assert len(WebRL(replay_ratio=0.0).credit([played(), *stored])) == 1
    assert len(WebRL().credit(stored)) == 9


def test_unjudged_episodes_and_proposals_teach_nothing() -> None:
    assert EVERY.credit([played(reward=nan), played(group="p", reward=nan, origin="proposal")]) == []
    assert EVERY.credit([]) == []


@pytest.mark.parametrize("pack", [False, True])
def test_a_squared_distance_of_the_whole_turn(pack: bool) -> None:
    """Log-ratios 0.3 + 0.2 and 0.4, beta 2, advantages 0.6: residuals 0.4 and 0.2, over two turns."""
    algorithm = replace(EVERY, beta=2.0)
    batch = collate(algorithm.credit([played()]), pack=pack, dtype=torch.float64)
    ours = torch.tensor([[0.0, -0.2, -0.3, 0.0, -0.1]], dtype=torch.float64, requires_grad=True)
    total = (algorithm.loss(Forward(logprobs=ours), batch).terms * batch.weights).sum()
    assert float(total.detach()) == pytest.approx((0.4**2 + 0.2**2) / 2)
    (slope,) = torch.autograd.grad(total, ours)
    assert slope[0].tolist() == pytest.approx([0.0, 2 * 2 * 0.4 / 2, 2 * 2 * 0.4 / 2, 0.0, 2 * 2 * 0.2 / 2])
    mean = replace(algorithm, normalize="mean_token").loss(Forward(logprobs=ours), batch).terms
    assert mean[0, [2, 4]].tolist() == pytest.approx([(2 * 0.25 - 0.6) ** 2, 0.2**2])


def test_the_released_form_masks_what_does_not_rise() -> None:
    """V 0.1 and 0.4 of a failure: its first turn trains, since V rose by more than 0.05; its last does not."""
    algorithm = replace(EVERY, form="released")
    (row,) = algorithm.credit([played(reward=0.0)])
    assert column(row, "advantages") == [1.0, 1.0, -0.6]
    batch = collate([row], pack=False, dtype=torch.float64)
    ours = torch.full((1, 5), -0.2, dtype=torch.float64)
    terms = algorithm.loss(Forward(logprobs=ours), batch).terms
    assert terms[0, [2, 4]].tolist() == pytest.approx([0.5 * 0.7**2, 0.0])
    (good,) = algorithm.credit([played(values=(0.0, 0.9, 0.9, 0.0, 0.0))])
    assert column(good, "advantages") == [1.0] * 3
    assert binarised(raw_advantages(*(torch.tensor([x]).numpy() for x in (0.3, 0.2, 0.0, 0.0)))).tolist() == [-0.6]


def test_the_critic_learns_the_outcome_by_the_heads_own_losses() -> None:
    batch = collate(EVERY.credit([played()]), pack=False, dtype=torch.float64)
    number = torch.full((1, 5), 0.25, dtype=torch.float64)
    losses = {"v1": lambda targets: targets - 0.5, "v2": lambda targets: 2 * targets}
    loss = EVERY.critic_loss(Forward(heads={"v1": number, "v2": number}, head_losses=losses), batch)
    assert float((loss.terms * batch.value_weights).sum()) == pytest.approx(2.5)


def test_the_critic_learns_alone_at_first() -> None:
    algorithm = WebRL(critic_warmup=1, critic_epochs=3, critic_minibatches=4, epochs=2, minibatches=5)
    models = [[update.model for update in algorithm.updates(step)] for step in (0, 1)]
    assert models == [["critic"], ["critic", "policy"]]
    critic, policy = algorithm.updates(1)
    assert (critic.epochs, critic.minibatches, policy.epochs, policy.minibatches) == (3, 4, 2, 5)


def test_metrics_say_how_well_success_is_foreseen() -> None:
    """V 0.1 and 0.4 of a success, 0.1 of a failure: squares 0.81, 0.36, 0.01; 1.5 of 2 pairs are in order."""
    rows = EVERY.credit([played(), played([-1, 0, 0], group="h", reward=0.0), played(group="r", origin="replay")])
    found = EVERY.metrics(rows)
    assert found["webrl/success"] == 0.5
    assert found["webrl/brier"] == pytest.approx((0.81 + 0.36 + 0.01) / 3)
    assert found["webrl/auc"] == pytest.approx(0.75)
    assert found["webrl/replayed"] == pytest.approx(2 / 5)
    assert EVERY.metrics([]) == {"webrl/replayed": 0.0}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"beta": 0.0}, "beta 0.0"),
        ({"form": "released", "beta": 2.0}, "beta 2.0"),
        ({"form": "released", "normalize": "mean_token"}, "normalize mean_token"),
        ({"lam": 1.1}, "lam 1.1"),
        ({"replay_low": 0.9, "replay_high": 0.5}, "replay_low 0.9"),
        ({"epochs": 0}, "epochs 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        WebRL(**options)
