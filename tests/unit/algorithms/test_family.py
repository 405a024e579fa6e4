"""GRPO, Dr. GRPO, DAPO, GSPO, CISPO, RLOO and REINFORCE++ beside one another: they are variations of one thing."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import pytest
import torch

from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.reinforce_pp import ReinforcePP
from llmrl.algorithms.rloo import RLOO
from llmrl.batch import collate
from llmrl.errors import RecipeError
from llmrl.ops.credit import average, center, leave_one_out
from llmrl.ops.losses import at_level, weighted_logprob
from llmrl.plugins import build
from llmrl.samples import Sample
from tests.builders import changed, row

Family = GRPO | RLOO | ReinforcePP
PLAIN: dict[str, Any] = {"importance_sampling_correction": "none"}
BARE: dict[str, Any] = {"beta": 0.0, **PLAIN}


def gains(rows: Sequence[Sample]) -> list[float]:
    """The advantage of each row's first action."""
    return [float(r.advantages[r.action_mask][0]) for r in rows]


# Worked cases


def test_advantages_of_one_group_worked_by_hand() -> None:
    # 3 of 8 right: mean .375, deviation .51755 with Bessel's correction; the mean of the others is (3 - r) / 7.
    rewards = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    rows = [row(episode=i, reward=r) for i, r in enumerate(rewards)]
    deviation = sqrt((3 * 0.625**2 + 5 * 0.375**2) / 7)
    wants: list[tuple[Family, float, float]] = [
        (GRPO(**BARE), 0.625 / (deviation + 1e-4), -0.375 / (deviation + 1e-4)),
        (GRPO(**BARE, scale_rewards="none"), 0.625, -0.375),
        (RLOO(**BARE), 0.7142857142857143, -0.42857142857142855),
        (ReinforcePP(**BARE), 1.2909944, -0.7745967),  # the population's deviation, sqrt(.375 * .625)
        (ReinforcePP(**BARE, baseline="group"), 1.2909944, -0.7745967),
    ]
    for algorithm, right, wrong in wants:
        want = [right if r else wrong for r in rewards]
        assert gains(algorithm.credit(rows)) == pytest.approx(want, abs=1e-7), algorithm
    assert gains(GRPO(**BARE).credit(rows)) == pytest.approx(
        [1.2076123955202949 if r else -0.724567437312177 for r in rewards],
        rel=2e-4,  # with 1e-6 beside the deviation
    )


def test_rloo_with_rewards_of_plus_and_minus_one_worked_by_hand() -> None:
    assert leave_one_out([1.0, -1.0, -1.0, 1.0]) == pytest.approx([4 / 3, -4 / 3, -4 / 3, 4 / 3])
    assert leave_one_out([-1.0, -1.0, -1.0, 1.0]) == pytest.approx([-2 / 3, -2 / 3, -2 / 3, 2.0])


def test_averages_worked_by_hand() -> None:
    # Four tokens of loss 1, two of loss 2. Averaging the means of micro-batches of one row would make 1.5 of "token".
    rows, losses = [row(episode=0, action_mask=(1,) * 4), row(episode=1, action_mask=(1,) * 2)], [1.0, 2.0]
    for over, length, want in (
        ("token", None, 8 / 6),
        ("sequence", None, 1.5),
        ("sequence_sum", None, 4.0),
        ("constant", 8, 0.5),
    ):
        weighted = average(rows, over, length)  # type: ignore[arg-type]
        assert sum(loss * sum(r.weights) for loss, r in zip(losses, weighted, strict=True)) == pytest.approx(want)
    assert average(rows, "token")[0].weights == pytest.approx([0.16666666666666666] * 4)
    assert [r.weights[0] for r in average(rows, "sequence")] == [0.125, 0.25]


def test_reinforce_pp_worked_by_hand() -> None:
    # Answers of 2, 4, 1 and 3 tokens, the first right: token mean .2, deviation .4. With the mean of each group of two
    # taken first the gains are .5, -.5, 0, 0: token mean -.1, deviation sqrt(1.5/10 - .01) = .37417.
    rows = [
        row(f"g{i // 2}", i % 2, reward, action_mask=[0] + [1] * length)
        for i, (reward, length) in enumerate(zip((1.0, 0.0, 0.0, 0.0), (2, 4, 1, 3), strict=True))
    ]
    plain, centred = (ReinforcePP(**BARE, baseline=b).credit(rows) for b in ("none", "group"))  # type: ignore[arg-type]
    assert gains(plain) == pytest.approx([1.9999999375000026, *[-0.49999998437500065] * 3], abs=1e-9)
    assert gains(centred) == pytest.approx(
        [1.6035673942042832, -1.0690449294695223, 0.2672612323673806, 0.2672612323673806], abs=1e-9
    )
    assert [r.weights.tolist() for r in plain] == [[0.0, *[pytest.approx(0.1)] * n] for n in (2, 4, 1, 3)]
    assert [r.reward for r in centred] == [1.0, 0.0, 0.0, 0.0]


def test_divergence_and_dense_rewards_worked_by_hand() -> None:
    # k1 is log(.5/.4), log(.2/.3), 0; beta .1; score 1: token rewards -.0223, .0405, 1, and .5 more for the first.
    old = [-0.6931471805599453, -1.6094379124341003, -0.10536051565782628]
    ref = [-0.916290731874155, -1.2039728043259361, -0.10536051565782628]
    base = row(reward=1.0, action_mask=(1, 1, 1), old_logprobs=old, ref_logprobs=ref, token_rewards=[0.5, 0.0, 0.0])
    other = row(episode=1, reward=0.0, action_mask=(1,), old_logprobs=[-1.0], ref_logprobs=[-1.0])
    credited = ReinforcePP(beta=0.1, gamma=0.5, **PLAIN).credit([base, other])
    sums = [0.5 - 0.022314355131420972 + 0.5 * (0.04054651081081642 + 0.5), 0.04054651081081642 + 0.5, 1.0, 0.0]
    mean = sum(sums) / 4
    scale = sqrt(sum((x - mean) ** 2 for x in sums) / 4 + 1e-8)
    assert [x for r in credited for x in r.advantages] == pytest.approx([(x - mean) / scale for x in sums])
    # The sum of the first answer's token rewards without the dense one is what RLOO compares: 1.01823 against 0.
    rewards = [changed(base, token_rewards=None), other]
    assert gains(RLOO(beta=0.1, **PLAIN).credit(rewards)) == pytest.approx([1.0182321556793954, -1.0182321556793954])


def test_capped_weights_worked_by_hand() -> None:
    ratios, advantages = torch.tensor([0.5, 1.0, 2.0, 8.0]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    new = torch.tensor([0.5, 0.4, 0.3, 0.2]).double().log().requires_grad_()
    for low, high, want, slopes in (
        (0.0, 5.0, [0.34657359027997264, -0.916290731874155, 2.4079456086518722, -8.047189562170502], [-0.5, 1, -2, 5]),
        (
            0.8,
            1.28,
            [0.5545177444479562, -0.916290731874155, 1.5410851895371982, -2.060080527915648],
            [-0.8, 1, -1.28, 1.28],
        ),
    ):
        terms = weighted_logprob(new, ratios.double(), advantages.double(), low, high)
        assert terms.tolist() == pytest.approx(want, abs=1e-6)
        assert torch.autograd.grad(terms.sum(), new)[0].tolist() == pytest.approx(slopes, abs=1e-6)


def test_a_product_is_of_the_whole_row() -> None:
    batch = collate([row(action_mask=(0, 1, 1)), row(action_mask=(0, 1, 0, 1))], pack=True)
    new = torch.tensor([[9.0, 0.1, 0.2, 9.0, 0.3, 9.0, 0.4]])
    now, before = at_level(new, torch.zeros_like(new), batch, "product")
    assert (now - before)[batch.action_mask].tolist() == pytest.approx([0.3, 0.3, 0.7, 0.7])


# What peers got wrong


def test_returns_reach_back_across_turns() -> None:
    # A peer's running sum began anew at every observed token, so that turns before the last earned nothing.
    rows = [row(episode=0, reward=1.0, action_mask=(0, 1, 1, 0, 0, 1)), row(episode=1, reward=0.0, action_mask=(0, 1))]
    first, second = ReinforcePP(**BARE).credit(rows)
    assert len({first.advantages[i] for i in (1, 2, 5)}) == 1
    assert first.advantages[1] > 0 > second.advantages[1]
    assert [first.advantages[i] for i in (0, 3, 4)] == [0.0] * 3


def test_an_episode_in_two_rows_counts_once_and_is_one_chain() -> None:
    rows = [
        changed(row(episode=0, reward=1.0, action_mask=(0, 1, 1)), turn_ids=[-1, 0, 0]),
        changed(row(episode=0, reward=1.0, action_mask=(0, 0, 1)), turn_ids=[-1, -1, 1]),
        row(episode=1, reward=0.0, action_mask=(0, 1)),
    ]
    loo = RLOO(**BARE).credit(rows)
    assert gains(loo) == [1.0, 1.0, -1.0]
    assert [sum(r.weights) for r in loo] == [2 / 2, 1 / 2, 1 / 2]
    chain = ReinforcePP(**BARE, gamma=0.5).credit(rows)
    flat = [x for r in chain for x, on in zip(r.advantages, r.action_mask, strict=True) if on]
    assert flat[0] < flat[1] < flat[2]  # .25, .5, 1: the reward came once, at the end of the second row
    assert flat[3] == min(flat)


def test_a_group_that_hardly_differs_is_not_amplified() -> None:
    # A peer divided by a deviation of rounding errors, whose gains are of order 1.
    near = [0.5, 0.5 + 1e-9, 0.5]
    assert leave_one_out(near) == [0.0] * 3
    assert center([near], "group") == [[0.0] * 3]


def test_a_reward_of_zero_is_a_reward() -> None:
    assert leave_one_out([0.0, 1.0]) == [-1.0, 1.0]
    assert len(RLOO(**BARE).credit([row(episode=0, reward=0.0), row(episode=1, reward=1.0)])) == 2


def test_a_single_answer_has_no_advantage() -> None:
    # A peer takes a mean of 0 and a deviation of 1 there, so that the reward itself is learned.
    lone = [row("alone", 0, 1.0), row("pair", 0, 1.0), row("pair", 1, 0.0)]
    for algorithm in (GRPO(**BARE), RLOO(**BARE)):
        assert {r.group for r in algorithm.credit(lone)} == {"pair"}


def test_groups_are_told_apart_by_name_not_by_prompt() -> None:
    # One prompt twice in a step, and so the same tokens: merged, each baseline would be that of all four.
    rows = [row("a", 0, 1.0), row("a", 1, 0.0), row("b", 0, 1.0), row("b", 1, 1.0)]
    assert {r.group for r in RLOO(**BARE).credit(rows)} == {"a"}


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({"name": "rloo"}, {"old_logprobs", "ref_logprobs"}),
        ({"name": "rloo", "beta": 0.0}, set()),
        ({"name": "rloo", "beta": 0.0, "minibatches": 2}, {"old_logprobs"}),
        ({"name": "reinforce_pp"}, {"old_logprobs", "ref_logprobs"}),
        ({"name": "reinforce_pp", "beta": 0.0}, set()),
        ({"name": "reinforce_pp", "beta": 0.0, "num_iterations": 2}, {"old_logprobs"}),
    ],
)
def test_needs(options: dict[str, Any], needs: set[str]) -> None:
    algorithm = build("algorithm", options)
    assert algorithm.needs() == needs
    (update,) = algorithm.updates(0)
    assert (update.model, update.epochs) == ("policy", options.get("num_iterations", 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "rloo", "beta": -1.0}, "beta"),
        ({"name": "rloo", "importance_sampling_cap": 0.5}, "importance_sampling_cap"),
        ({"name": "rloo", "minibatches": 0}, "minibatches"),
        ({"name": "reinforce_pp", "gamma": 1.5}, "gamma"),
        ({"name": "reinforce_pp", "delta": 1.1}, "delta"),
        ({"name": "reinforce_pp", "epsilon": -0.1}, "epsilon"),
        ({"name": "grpo", "weight_cap": 0.5}, "weight_cap"),
        ({"name": "grpo", "loss_average": "constant", "max_completion_length": 0}, "max_completion_length"),
        ({"name": "grpo", "off_policy_mask_threshold": 0.0}, "off_policy_mask_threshold"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("algorithm", options)
