"""GRPO, Dr. GRPO, DAPO, GSPO, CISPO, RLOO and REINFORCE++ beside one another: they are variations of one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, nan, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.reinforce_pp import ReinforcePP
from llmrl.algorithms.rloo import RLOO
from llmrl.batch import collate
from llmrl.errors import RecipeError
from llmrl.ops.credit import average, center, leave_one_out
from llmrl.ops.losses import at_level, weighted_logprob
from llmrl.plugins import build
from llmrl.protocols import Forward
from llmrl.types import Sample

Family = GRPO | RLOO | ReinforcePP
PLAIN: dict[str, Any] = {"importance_sampling_correction": "none"}
BARE: dict[str, Any] = {"beta": 0.0, **PLAIN}


def row(
    group: str = "g", episode: int = 0, reward: float = 0.0, mask: Sequence[int] = (0, 1, 1), **more: Any
) -> Sample:
    """A row whose action mask is given; its engine was sure of nothing."""
    return Sample(
        group=group,
        episode=episode,
        reward=reward,
        turn_rewards=[reward],
        token_ids=[0] * len(mask),
        turn_ids=[0 if on else -1 for on in mask],
        action_mask=[bool(on) for on in mask],
        sampled_logprobs=more.pop("sampled_logprobs", [-1.0 if on else 0.0 for on in mask]),
        **more,
    )


def gains(rows: Sequence[Sample]) -> list[float]:
    """The advantage of each row's first action."""
    return [(r.advantages or [])[r.action_mask.index(True)] for r in rows]


def gradient(algorithm: Family, rows: Sequence[Sample], now: Sequence[Tensor]) -> list[Tensor]:
    """Of the step's objective, by row of those that credit kept."""
    leaves = {(r.group, r.episode): n.clone().requires_grad_() for r, n in zip(rows, now, strict=True)}
    credited = algorithm.credit(rows)
    if not credited:
        return [torch.zeros_like(n) for n in now]
    width = max(len(r.token_ids) for r in credited)
    ours = [leaves[r.group, r.episode] for r in credited]
    new = torch.stack([torch.cat([n, n.new_zeros(width - len(n))]) for n in ours])
    batch = collate(credited, pack=False)
    loss = algorithm.loss(Forward(logprobs=new), batch)
    assert not any(metric.requires_grad for metric in loss.metrics.values())
    found = torch.autograd.grad((loss.terms * batch.weights).sum(), list(leaves.values()), allow_unused=True)
    return [torch.zeros_like(n) if g is None else g for n, g in zip(now, found, strict=True)]


def random_step(seed: int, groups: int = 3, size: int = 4) -> tuple[list[Sample], list[Tensor]]:
    """Ragged rows with gaps in their action masks, and the log-probabilities of the policy being trained."""
    generator = torch.Generator().manual_seed(seed)
    rows, now = [], []
    for i in range(groups * size):
        length = int(torch.randint(2, 8, (), generator=generator))
        mask = [0, 1, *(int(x) for x in torch.randint(2, (length - 2,), generator=generator))]
        drawn = -1.5 + 0.4 * torch.randn(4, length, generator=generator, dtype=torch.float64)
        old, sampled, ref = ([float(x) if on else 0.0 for x, on in zip(line, mask, strict=True)] for line in drawn[:3])
        reward = float(torch.randint(3, (), generator=generator))
        columns: dict[str, Any] = {"old_logprobs": old, "ref_logprobs": ref, "sampled_logprobs": sampled}
        rows.append(row(f"g{i // size}", i % size, reward, mask, **columns))
        now.append(drawn[3])
    return rows, now


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
    rows, losses = [row(episode=0, mask=(1,) * 4), row(episode=1, mask=(1,) * 2)], [1.0, 2.0]
    for over, length, want in (
        ("token", None, 8 / 6),
        ("sequence", None, 1.5),
        ("sequence_sum", None, 4.0),
        ("constant", 8, 0.5),
    ):
        weighted = average(rows, over, length)  # type: ignore[arg-type]
        assert sum(loss * sum(r.weights or ()) for loss, r in zip(losses, weighted, strict=True)) == pytest.approx(want)
    assert average(rows, "token")[0].weights == pytest.approx([0.16666666666666666] * 4)
    assert [(r.weights or [])[0] for r in average(rows, "sequence")] == [0.125, 0.25]


def test_reinforce_pp_worked_by_hand() -> None:
    # Answers of 2, 4, 1 and 3 tokens, the first right: token mean .2, deviation .4. With the mean of each group of two
    # taken first the gains are .5, -.5, 0, 0: token mean -.1, deviation sqrt(1.5/10 - .01) = .37417.
    rows = [
        row(f"g{i // 2}", i % 2, reward, mask=[0] + [1] * length)
        for i, (reward, length) in enumerate(zip((1.0, 0.0, 0.0, 0.0), (2, 4, 1, 3), strict=True))
    ]
    plain, centred = (ReinforcePP(**BARE, baseline=b).credit(rows) for b in ("none", "group"))  # type: ignore[arg-type]
    assert gains(plain) == pytest.approx([1.9999999375000026, *[-0.49999998437500065] * 3], abs=1e-9)
    assert gains(centred) == pytest.approx(
        [1.6035673942042832, -1.0690449294695223, 0.2672612323673806, 0.2672612323673806], abs=1e-9
    )
    assert [r.weights for r in plain] == [[0.0, *[pytest.approx(0.1)] * n] for n in (2, 4, 1, 3)]
    assert [r.reward for r in centred] == [1.0, 0.0, 0.0, 0.0]


def test_divergence_and_dense_rewards_worked_by_hand() -> None:
    # k1 is log(.5/.4), log(.2/.3), 0; beta .1; score 1: token rewards -.0223, .0405, 1, and .5 more for the first.
    old = [-0.6931471805599453, -1.6094379124341003, -0.10536051565782628]
    ref = [-0.916290731874155, -1.2039728043259361, -0.10536051565782628]
    base = row(reward=1.0, mask=(1, 1, 1), old_logprobs=old, ref_logprobs=ref, token_rewards=[0.5, 0.0, 0.0])
    other = row(episode=1, reward=0.0, mask=(1,), old_logprobs=[-1.0], ref_logprobs=[-1.0])
    credited = ReinforcePP(beta=0.1, gamma=0.5, **PLAIN).credit([base, other])
    sums = [0.5 - 0.022314355131420972 + 0.5 * (0.04054651081081642 + 0.5), 0.04054651081081642 + 0.5, 1.0, 0.0]
    mean = sum(sums) / 4
    scale = sqrt(sum((x - mean) ** 2 for x in sums) / 4 + 1e-8)
    assert [x for r in credited for x in r.advantages or ()] == pytest.approx([(x - mean) / scale for x in sums])
    # The sum of the first answer's token rewards without the dense one is what RLOO compares: 1.01823 against 0.
    rewards = [replace(base, token_rewards=None), other]
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
    batch = collate([row(mask=(0, 1, 1)), row(mask=(0, 1, 0, 1))], pack=True)
    new = torch.tensor([[9.0, 0.1, 0.2, 9.0, 0.3, 9.0, 0.4]])
    now, before = at_level(new, torch.zeros_like(new), batch, "product")
    assert (now - before)[batch.action_mask].tolist() == pytest.approx([0.3, 0.3, 0.7, 0.7])


# What the variants have in common


def test_dr_grpo_and_rloo_have_proportional_gradients() -> None:
    # Without scaling, the mean of the others differs from the mean of all by the factor G / (G - 1).
    rows, now = random_step(seed=3)
    ours = gradient(GRPO(**PLAIN, scale_rewards="none", loss_average="sequence_sum"), rows, now)
    theirs = gradient(RLOO(**BARE), [replace(r, old_logprobs=None) for r in rows], now)
    one_step = gradient(
        GRPO(**PLAIN, scale_rewards="none", loss_average="sequence_sum"),
        [replace(r, old_logprobs=None) for r in rows],
        now,
    )
    for dr, loo in zip(one_step, theirs, strict=True):
        torch.testing.assert_close(dr, loo * 3 / 4, rtol=1e-6, atol=1e-9)
    assert any(not torch.allclose(a, b) for a, b in zip(ours, one_step, strict=True))


def test_cispo_at_a_ratio_of_one_is_reinforce() -> None:
    rows, now = random_step(seed=4)
    rows = [replace(r, old_logprobs=None) for r in rows]
    cispo = gradient(GRPO(**PLAIN, loss_type="cispo"), rows, now)
    credited = {(r.group, r.episode): r for r in GRPO(**PLAIN).credit(rows)}
    for r, got in zip(rows, cispo, strict=True):
        kept = credited.get((r.group, r.episode))
        if kept is None:
            assert not got.any()
            continue
        want = [-a * w for a, w in zip(kept.advantages or (), kept.weights or (), strict=True)]
        assert got.tolist() == pytest.approx(want, abs=1e-7)


def test_no_token_loses_its_gradient_under_cispo() -> None:
    base = [row(episode=0, reward=1.0, old_logprobs=[0.0, -5.0, -1.0]), row(episode=1, old_logprobs=[0.0, -1.0, -5.0])]
    now = [torch.tensor([0.0, -1.0, -5.0]), torch.tensor([0.0, -5.0, -1.0])]
    clipped, kept = (gradient(GRPO(**PLAIN, loss_type=kind), base, now) for kind in ("dapo", "cispo"))  # type: ignore[arg-type]
    assert [bool(x) for g in clipped for x in g[1:]] == [False, True, False, True]  # a gain that rose, a loss that fell
    assert all(bool(x) for g in kept for x in g[1:])


FORMS: list[Family] = [
    GRPO(loss_type="grpo", importance_sampling_level="sequence", num_iterations=2),
    RLOO(),
    RLOO(beta=0.0, minibatches=2, epsilon_high=0.4),
    RLOO(minibatches=2, importance_sampling_level="sequence"),
    RLOO(minibatches=2, importance_sampling_level="product", epsilon=0.5, importance_sampling_correction="token_mask"),
    ReinforcePP(),
    ReinforcePP(baseline="group", gamma=0.9, num_iterations=2, delta=1.5),
    ReinforcePP(beta=0.0, importance_sampling_correction="sequence_truncate"),
]
forms = pytest.mark.parametrize("algorithm", FORMS, ids=lambda a: f"{type(a).__name__}{FORMS.index(a)}")


def oracle(
    algorithm: RLOO | ReinforcePP, rows: Sequence[Sample], now: Sequence[Sequence[float]], at: Sequence[Sequence[float]]
) -> float:
    """The objective written from the equations, one token at a time; `at` is read where a gradient is stopped."""
    chosen = [[t for t, on in enumerate(r.action_mask) if on] for r in rows]
    k1 = [[o - f for o, f in zip(r.old_logprobs or (), r.ref_logprobs or (), strict=True)] for r in rows]
    tokens: list[list[float]] = []  # of advantages, per action
    if isinstance(algorithm, RLOO):
        scores = [r.reward - algorithm.beta * sum(k1[i][t] for t in chosen[i]) for i, r in enumerate(rows)]
        for i, r in enumerate(rows):
            others = [s for s, other in zip(scores, rows, strict=True) if other.group == r.group and other is not r]
            tokens.append([scores[i] - sum(others) / len(others)] * len(chosen[i]))
    else:
        for i, r in enumerate(rows):
            group = [other.reward for other in rows if other.group == r.group]
            score = r.reward - (sum(group) / len(group) if algorithm.baseline == "group" else 0.0)
            last, back = 0.0, []
            for t in reversed(chosen[i]):
                last = (score if t == chosen[i][-1] else 0.0) - algorithm.beta * k1[i][t] + algorithm.gamma * last
                back.append(last)
            tokens.append(back[::-1])
        flat = [x for line in tokens for x in line]
        mean = sum(flat) / len(flat)
        scale = sqrt(sum((x - mean) ** 2 for x in flat) / len(flat) + 1e-8)
        tokens = [[(x - mean) / scale for x in line] for line in tokens]
    total = 0.0
    for i, r in enumerate(rows):
        log = [now[i][t] - (r.old_logprobs or [])[t] for t in chosen[i]]
        level = getattr(algorithm, "importance_sampling_level", "token")
        for j, t in enumerate(chosen[i]):
            ratio = exp({"token": log[j], "sequence": sum(log) / len(log), "product": sum(log)}[level])
            gain, low, high = tokens[i][j], 1 - algorithm.epsilon, 1 + (algorithm.epsilon_high or algorithm.epsilon)
            term = max(-gain * ratio, -gain * min(max(ratio, low), high))
            delta = getattr(algorithm, "delta", None)
            term = min(term, -gain * delta) if delta and gain < 0 else term
            if isinstance(algorithm, RLOO) and not algorithm.clips:
                term = -gain * now[i][t]
            gaps = [(r.old_logprobs or [])[u] - r.sampled_logprobs[u] for u in chosen[i]]
            own = exp(gaps[j])
            term *= {
                "token_truncate": min(own, 2.0),
                "token_mask": own if 0.5 <= own <= 2 else 0.0,
                "sequence_truncate": min(exp(sum(gaps)), 2.0),
            }[algorithm.importance_sampling_correction]
            share = 1 / len(rows) if isinstance(algorithm, RLOO) else 1 / sum(map(len, chosen))
            total += term * share / (len(log) if level == "product" else 1)
    return total


@pytest.mark.parametrize("algorithm", FORMS[1:], ids=lambda a: f"{type(a).__name__}{FORMS.index(a)}")
def test_value_and_gradient_are_those_of_the_equations(algorithm: RLOO | ReinforcePP) -> None:
    width = 1e-6
    for seed in range(3):
        rows, now = random_step(seed, groups=2, size=3)
        at = [n.tolist() for n in now]
        found = gradient(algorithm, rows, now)
        for i, line in enumerate(at):
            for t in range(len(line)):
                ends = []
                for shift in (width, -width):
                    moved = [list(n) for n in at]
                    moved[i][t] += shift
                    ends.append(oracle(algorithm, rows, moved, at))
                assert float(found[i][t]) == pytest.approx((ends[0] - ends[1]) / (2 * width), abs=2e-6)  # float32 batch


@forms
def test_no_layout_changes_the_gradient(algorithm: Family) -> None:
    rows, now = random_step(seed=7)
    want = gradient(algorithm, rows, now)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = gradient(algorithm, [rows[i] for i in order], [now[i] for i in order])
    for place, i in enumerate(order):
        torch.testing.assert_close(shuffled[place], want[i], rtol=0, atol=1e-7)
    credited = algorithm.credit(rows)
    known = {(r.group, r.episode): n for r, n in zip(rows, now, strict=True)}
    ours = [known[r.group, r.episode] for r in credited]
    width = max(map(len, ours))
    padded = torch.stack([torch.cat([n, torch.full((width - len(n),), 7.5).double()]) for n in ours])
    totals = []
    for pack, new in ((False, padded), (True, torch.cat(ours)[None])):
        batch = collate(credited, pack)
        totals.append((algorithm.loss(Forward(logprobs=new), batch).terms * batch.weights).sum().item())
    parts = 0.0
    for r, n in zip(credited, ours, strict=True):  # micro-batches of one row each
        batch = collate([r], pack=False)
        parts += (algorithm.loss(Forward(logprobs=n[None]), batch).terms * batch.weights).sum().item()
    assert totals[1] == pytest.approx(totals[0], abs=1e-6)
    assert parts == pytest.approx(totals[0], abs=1e-6)


@forms
def test_observed_tokens_do_not_matter_and_do_not_learn(algorithm: Family) -> None:
    rows, now = random_step(seed=8)
    want = gradient(algorithm, rows, now)
    noisy = []
    for r in rows:
        columns: dict[str, Any] = {
            name: [x if on else 3.3 for x, on in zip(getattr(r, name), r.action_mask, strict=True)]
            for name in ("sampled_logprobs", "old_logprobs", "ref_logprobs")
        }
        noisy.append(replace(r, **columns))
    moved = [torch.where(torch.tensor(r.action_mask), n, 5.0) for r, n in zip(rows, now, strict=True)]
    for r, left, right in zip(rows, gradient(algorithm, noisy, moved), want, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-7)
        assert not right[~torch.tensor(r.action_mask)].any()


@forms
def test_equal_rewards_teach_exactly_nothing(algorithm: Family) -> None:
    bare = replace(algorithm, beta=0.0)
    rows, _ = random_step(seed=9)
    assert bare.credit([replace(r, reward=0.1) for r in rows]) == []


@forms
def test_what_nobody_could_judge_leaves_everything(algorithm: Family) -> None:
    rows, _ = random_step(seed=10)
    broken = [replace(r, reward=nan) if r.episode == 1 else r for r in rows]
    with_broken, without = algorithm.credit(broken), algorithm.credit([r for r in rows if r.episode != 1])
    assert with_broken == without
    assert all(r.episode != 1 for r in with_broken)


@forms
def test_masked_truncated_answers_leave_the_denominator(algorithm: Family) -> None:
    masking = replace(algorithm, mask_truncated_completions=True)
    rows, _ = random_step(seed=11)
    cut = [replace(r, truncated=r.episode == 0) for r in rows]
    kept = masking.credit(cut)
    assert kept
    assert all(r.episode != 0 for r in kept)
    whole = average(
        [r for r in cut if r.episode != 0], algorithm.over if not isinstance(algorithm, ReinforcePP) else "token"
    )
    shares = {(r.group, r.episode): r.weights for r in whole}
    assert all(r.weights == shares[r.group, r.episode] for r in kept)


def test_returns_reach_back_across_turns() -> None:
    # A peer's running sum began anew at every observed token, so that turns before the last earned nothing.
    rows = [row(episode=0, reward=1.0, mask=(0, 1, 1, 0, 0, 1)), row(episode=1, reward=0.0, mask=(0, 1))]
    first, second = ReinforcePP(**BARE).credit(rows)
    assert first.advantages is not None
    assert len({first.advantages[i] for i in (1, 2, 5)}) == 1
    assert first.advantages[1] > 0 > (second.advantages or [])[1]
    assert [first.advantages[i] for i in (0, 3, 4)] == [0.0] * 3


def test_an_episode_in_two_rows_counts_once_and_is_one_chain() -> None:
    rows = [
        replace(row(episode=0, reward=1.0, mask=(0, 1, 1)), turn_ids=[-1, 0, 0]),
        replace(row(episode=0, reward=1.0, mask=(0, 0, 1)), turn_ids=[-1, -1, 1]),
        row(episode=1, reward=0.0, mask=(0, 1)),
    ]
    loo = RLOO(**BARE).credit(rows)
    assert gains(loo) == [1.0, 1.0, -1.0]
    assert [sum(r.weights or ()) for r in loo] == [2 / 2, 1 / 2, 1 / 2]
    chain = ReinforcePP(**BARE, gamma=0.5).credit(rows)
    flat = [x for r in chain for x, on in zip(r.advantages or (), r.action_mask, strict=True) if on]
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
        ({"name": "grpo", "loss_average": "constant"}, "max_completion_length"),
        ({"name": "grpo", "off_policy_mask_threshold": 0.0}, "off_policy_mask_threshold"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("algorithm", options)


@forms
def test_ratios_against_another_distribution_are_refused(algorithm: Family) -> None:
    rows = [replace(r, semantics="raw") for r in random_step(seed=1)[0]]
    with pytest.raises(RecipeError, match="'raw'"):
        algorithm.credit(rows)
    assert replace(algorithm, importance_sampling_correction="none").credit(rows)


# The tabular problem


@pytest.mark.parametrize(
    ("algorithm", "rate"),
    [
        (GRPO(loss_type="cispo"), 30.0),
        (GRPO(loss_type="grpo", importance_sampling_level="sequence_token", epsilon=3e-4, epsilon_high=4e-4), 30.0),
        (GRPO(importance_sampling_correction="token_mask", entropy_coef=0.0), 30.0),
        (RLOO(beta=0.0), 20.0),
        (ReinforcePP(beta=0.0), 30.0),
        (ReinforcePP(beta=0.0, baseline="group"), 30.0),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, float) else "",
)
@pytest.mark.parametrize("seed", range(2))
def test_a_table_learns_a_secret(algorithm: Family, rate: float, seed: int) -> None:
    """3 prompts, 4 tokens of 5 symbols; paid if at least 3 match (by chance 2.7%). Plain gradient descent."""
    generator = torch.Generator().manual_seed(seed)
    secret = torch.randint(5, (3, 4), generator=generator)
    table, paid = torch.zeros(3, 4, 5, requires_grad=True), []
    for _ in range(70):
        logprobs = torch.log_softmax(table, -1)
        tokens = torch.multinomial(logprobs.detach().exp().repeat_interleave(16, 0).view(-1, 5), 1, generator=generator)
        tokens = tokens.view(48, 4)
        rewards = ((tokens == secret.repeat_interleave(16, 0)).sum(-1) >= 3).double()
        chosen = logprobs.repeat_interleave(16, 0).gather(-1, tokens[..., None])[..., 0]
        rows = [
            row(str(i // 16), i % 16, float(rewards[i]), (0, 1, 1, 1, 1), sampled_logprobs=[0.0, *chosen[i].tolist()])
            for i in range(48)
        ]
        credited = algorithm.credit(rows)
        paid.append(rewards.mean().item())
        if credited:
            now = [torch.cat([chosen.new_zeros(1), chosen[int(r.group) * 16 + r.episode]]) for r in credited]
            batch, new = collate(credited, pack=False), torch.stack(now)
            loss = (algorithm.loss(Forward(logprobs=new), batch).terms * batch.weights).sum()
            table.data -= rate * torch.autograd.grad(loss, table)[0]
    assert sum(paid[:3]) / 3 < 0.3
    assert sum(paid[-5:]) / 5 > 0.95
