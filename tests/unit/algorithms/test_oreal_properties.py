"""OREAL against its equations in float64, against any layout of its rows, and on problems whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log1p
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmrl.algorithms.oreal import Oreal
from llmrl.batch import Batch, collate
from llmrl.columns import COLUMNS as TABLE
from llmrl.protocols import Forward
from llmrl.samples import Sample
from tests.builders import changed, sample

FORMS: list[dict[str, Any]] = [
    {},
    {"variant": "paper"},
    {"selection": "all", "advantage": "group", "weight_threshold": 0.3, "beta": 0.2},
    {"token_weights": "top_fraction", "top_fraction": 0.5, "minibatches": 2, "eta": 2.0},
    {"variant": "paper", "minibatches": 2, "scale_wrong": True, "beta": 0.1},
    {"token_weights": "none", "wrong_term": "log_ratio", "minibatches": 3},
]
forms = pytest.mark.parametrize("options", FORMS, ids=lambda o: ",".join(map(str, o.values())) or "default")
VARIANTS: dict[str, dict[str, Any]] = {  # as the paper and its released code write them
    "reference": {
        "scale_right": True,
        "scale_wrong": True,
        "wrong_term": "ratio",
        "kl_anchor": "initial",
        "weight_sees_token": False,
        "wrong_reward": -1.0,
    },
    "paper": {
        "scale_right": False,
        "scale_wrong": False,
        "wrong_term": "log_ratio",
        "kl_anchor": "previous",
        "weight_sees_token": True,
        "wrong_reward": 0.0,
    },
}
COLUMNS = ("old_logprobs", "ref_logprobs", "values", "next_values", "advantages", "returns", "weights", "value_weights")


def random_step(seed: int, groups: int = 3, size: int = 4) -> tuple[list[Sample], list[Tensor]]:
    """Ragged rows with gaps in their action masks, and the log-probabilities of the policy being trained."""
    generator = torch.Generator().manual_seed(seed)
    rows, now = [], []
    for group in range(groups):
        for episode in range(size):
            length = int(torch.randint(2, 8, (), generator=generator))
            mask = [False, True, *(bool(x) for x in torch.randint(2, (length - 2,), generator=generator))]
            draws = torch.randn(5, length, generator=generator, dtype=torch.float64)
            correct = bool(torch.randint(2, (), generator=generator))
            rows.append(
                sample(
                    group=f"g{group}",
                    episode=episode,
                    reward=float(correct),
                    correct=correct,
                    turn_rewards=[0.0],
                    token_ids=[0] * length,
                    turn_ids=[0 if on else -1 for on in mask],
                    action_mask=mask,
                    sampled_logprobs=[0.0] * length,
                    old_logprobs=(-1.5 + 0.4 * draws[0]).tolist(),
                    ref_logprobs=(-1.5 + 0.4 * draws[1]).tolist(),
                    values=(2 * draws[2]).tolist(),
                    next_values=(2 * draws[3]).tolist(),
                )
            )
            now.append(-1.5 + 0.4 * draws[4])
    return rows, now


def trim(algorithm: Oreal, rows: Sequence[Sample]) -> list[Sample]:
    """The rows with the columns that the algorithm asks for, as a run fills them."""
    unasked = {"old_logprobs", "ref_logprobs", "values", "next_values"} - algorithm.needs()
    return [changed(r, **dict.fromkeys(unasked)) for r in rows]


def double(rows: Sequence[Sample], pack: bool = False, extra: int = 0, junk: float = 0.0) -> Batch:
    """Collate in float64; `junk` stands in every cell that no action token owns, weights excepted."""
    batch = collate(rows, pack, dtype=torch.float64)
    wide = {
        name: torch.nn.functional.pad(column, (0, extra), value=TABLE[name].padding)
        for name, column in batch.columns.items()
    }
    mask = wide["turn_ids"] >= 0
    for name in (name for name in COLUMNS if name in wide and "weights" not in name):
        wide[name] = torch.where(mask, wide[name], junk)
    cells = torch.nn.functional.pad(batch.sample_ids, (0, extra), value=-1)
    return replace(batch, sample_ids=cells, columns=wide)


def spread(batch: Batch, numbers: Sequence[Tensor], junk: float) -> Tensor:
    """The (B, T) of ragged rows."""
    grid = torch.full(batch.sample_ids.shape, junk, dtype=torch.float64)
    for i, row in enumerate(numbers):
        grid = grid.masked_scatter(batch.sample_ids == i, row)
    return torch.where(batch.action_mask, grid, junk)


def learn(
    algorithm: Oreal, rows: Sequence[Sample], now: Sequence[Tensor], split: int = 1, critic: bool = False, **layout: Any
) -> tuple[float, dict[tuple[str, int], Tensor]]:
    """The objective of a step and its gradient by row, over `split` micro-batches; of the policy or the critic."""
    leaves = {(r.group, r.episode): n.clone().requires_grad_() for r, n in zip(rows, now, strict=True)}
    credited = algorithm.credit(trim(algorithm, rows))
    total = torch.zeros((), dtype=torch.float64)
    for part in (credited[i::split] for i in range(split)):
        if not part:
            continue
        batch = double(part, **layout)
        numbers = spread(batch, [leaves[r.group, r.episode] for r in part], layout.get("junk", 0.0))
        if critic:
            forward = Forward(values=numbers, next_values=numbers)
            total = total + (algorithm.reward_model_loss(forward, batch).terms * batch.value_weights).sum()
        else:
            total = total + (algorithm.loss(Forward(logprobs=numbers), batch).terms * batch.weights).sum()
    if total.requires_grad:
        total.backward()
    return total.item(), {key: torch.zeros_like(n) if n.grad is None else n.grad for key, n in leaves.items()}


def choices(algorithm: Oreal) -> SimpleNamespace:
    """The variant's choices, but for the options that are set."""
    own = VARIANTS[algorithm.variant]
    given = {name: getattr(algorithm, name) for name in own}
    return SimpleNamespace(**{name: own[name] if value is None else value for name, value in given.items()})


def require_selection(algorithm: Oreal, rows: Sequence[Sample], kept: Sequence[tuple[str, int]]) -> None:
    """Check that of each mixed group a right answer and a wrong one are kept, or all; of any other group none."""
    pairs = algorithm.selection == "pair" or (algorithm.selection is None and algorithm.token_weights != "none")
    for group in {r.group for r in rows}:
        own = [r for r in rows if r.group == group]
        right = [bool(r.correct) for r in own]
        chosen = [bool(r.correct) for r in own if (r.group, r.episode) in kept]
        mixed = len(set(right)) == 2
        assert sorted(chosen) == ([] if not mixed else [False, True] if pairs else sorted(right))


def oracle(algorithm: Oreal, rows: Sequence[Sample], now: Sequence[Tensor]) -> float:
    """The three sums of the paper over the answers that were kept, one token at a time."""
    form = choices(algorithm)
    kept = [(r.group, r.episode) for r in algorithm.credit(trim(algorithm, rows))]
    require_selection(algorithm, rows, kept)
    sums, tokens, divergence = {True: 0.0, False: 0.0}, {True: 0, False: 0}, 0.0
    for r, n in zip(rows, now, strict=True):
        if (r.group, r.episode) not in kept:
            continue
        siblings = [s for s in rows if s.group == r.group]
        paid = [1.0 if s.correct else form.wrong_reward for s in siblings]
        own, mean = 1.0 if r.correct else form.wrong_reward, sum(paid) / len(paid)
        if algorithm.advantage == "group":
            deviation = (sum((x - mean) ** 2 for x in paid) / (len(paid) - 1)) ** 0.5
            gain = (own - mean) / (deviation + 1e-4)
        else:
            gain = own - (sum(paid) - own) / (len(paid) - 1)
        gain = gain if (form.scale_right if r.correct else form.scale_wrong) else (1.0 if r.correct else -1.0)
        chosen = [t for t, on in enumerate(r.action_mask) if on]
        tokens[bool(r.correct)] += len(chosen)
        for place, t in enumerate(chosen):
            w, x = _weight(algorithm, r, chosen, place), float(n[t])
            old = r.old_logprobs[t] if algorithm.minibatches > 1 else None
            anchor = r.ref_logprobs[t] if form.kl_anchor == "initial" else old
            if r.correct:
                sums[True] += gain * w * -x
            else:
                d = 0.0 if old is None else x - old
                sums[False] += algorithm.eta * -gain * w * (d if form.wrong_term == "log_ratio" else exp(d))
            if anchor is not None:
                divergence += exp(anchor - x) - 1 - (anchor - x)
    if not any(tokens.values()):
        return 0.0
    return sums[True] / tokens[True] + sums[False] / tokens[False] + algorithm.beta * divergence / sum(tokens.values())


def _weight(algorithm: Oreal, r: Sample, chosen: Sequence[int], place: int) -> float:
    if algorithm.token_weights == "none":
        return 1.0
    logits = r.next_values if choices(algorithm).weight_sees_token else r.values
    q = [1 / (1 + exp(-sum(logits[t] for t in chosen[: k + 1]) / (k + 1))) for k in range(len(chosen))]
    q = q if r.correct else [1 - x for x in q]
    if algorithm.token_weights == "threshold":
        c = algorithm.weight_threshold
        return min(max((q[place] - c) / (1 - c), 0.0), 1.0)
    kept = sorted(q, reverse=True)[: max(1, round(algorithm.top_fraction * len(q)))]
    if q[place] < kept[-1]:
        return 0.0
    return (q[place] - kept[-1]) / (kept[0] - kept[-1]) if kept[0] > kept[-1] else 1.0


@forms
def test_the_objective_is_that_of_the_equations(options: dict[str, Any]) -> None:
    algorithm, mixed = Oreal(**options), 0
    for seed in range(20):
        rows, now = random_step(seed)
        value = learn(algorithm, rows, now)[0]
        assert value == pytest.approx(oracle(algorithm, rows, now), abs=1e-10)
        mixed += value != 0
    assert mixed > 10


@forms
def test_the_gradient_is_that_of_finite_differences(options: dict[str, Any]) -> None:
    algorithm = Oreal(**options)
    rows, now = random_step(seed=3, groups=2, size=3)
    gradients, width = learn(algorithm, rows, now)[1], 1e-6
    assert any(g.any() for g in gradients.values())
    for i, r in enumerate(rows):
        for t in range(len(r.token_ids)):
            ends = []
            for shift in (width, -width):
                moved = [n.clone() for n in now]
                moved[i][t] += shift
                fixed = (
                    rows
                    if algorithm.minibatches > 1
                    else [changed(x, old_logprobs=n.tolist()) for x, n in zip(rows, now, strict=True)]
                )
                ends.append(
                    oracle(algorithm if algorithm.minibatches > 1 else replace(algorithm, minibatches=2), fixed, moved)
                )
            want = (ends[0] - ends[1]) / (2 * width)
            assert float(gradients[r.group, r.episode][t]) == pytest.approx(want, abs=1e-7)


def test_the_reward_models_loss_and_gradient() -> None:
    for seed in range(20):
        rows, logits = random_step(seed)
        value, gradients = learn(Oreal(), rows, logits, critic=True)
        kept = {(r.group, r.episode) for r in Oreal().credit(trim(Oreal(), rows))}
        expected = 0.0
        for r, n in zip(rows, logits, strict=True):
            gradient = torch.zeros_like(n)
            if (r.group, r.episode) in kept:
                chosen = [t for t, on in enumerate(r.action_mask) if on]
                mean = sum(float(n[t]) for t in chosen) / len(chosen)
                expected += log1p(exp(-mean if r.correct else mean)) / len(kept)
                gradient[chosen] = (1 / (1 + exp(-mean)) - float(bool(r.correct))) / len(kept) / len(chosen)
            torch.testing.assert_close(gradients[r.group, r.episode], gradient, rtol=0, atol=1e-12)
        assert value == pytest.approx(expected, abs=1e-10)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    form=st.sampled_from(FORMS),
    split=st.integers(2, 5),
    extra=st.integers(0, 4),
    critic=st.booleans(),
)
def test_no_layout_changes_the_gradient(seed: int, form: dict[str, Any], split: int, extra: int, critic: bool) -> None:
    algorithm = Oreal(**form)
    if critic and not algorithm.has_reward_model:
        return
    rows, now = random_step(seed)
    value, gradients = learn(algorithm, rows, now, critic=critic)
    for other in (
        learn(algorithm, rows, now, critic=critic, extra=extra, junk=7.7),
        learn(algorithm, rows, now, critic=critic, pack=True, junk=-3.3),
        learn(algorithm, rows, now, critic=critic, split=split, extra=extra),
        learn(algorithm, rows[::-1], now[::-1], critic=critic),
    ):
        assert other[0] == pytest.approx(value, abs=1e-12)
        for key, gradient in gradients.items():
            torch.testing.assert_close(other[1][key], gradient, rtol=0, atol=1e-12)


def test_what_stands_outside_the_mask_of_a_row_cannot_matter() -> None:
    algorithm = Oreal(minibatches=2)
    rows, now = random_step(4)
    changed = [
        r.assign(**{name: getattr(r, name) for name in ("old_logprobs", "ref_logprobs", "values", "next_values")})
        for r in rows
    ]
    assert learn(algorithm, changed, now)[0] == learn(algorithm, rows, now)[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_table_learns_a_secret(seed: int) -> None:
    """3 prompts, 4 tokens of 5 symbols; right if at least 3 match (by chance 2.7%). No reward model."""
    generator = torch.Generator().manual_seed(seed)
    secret = torch.randint(5, (3, 4), generator=generator)
    table = torch.zeros(3, 4, 5, requires_grad=True)
    algorithm, solved = Oreal(token_weights="none", beta=0), []
    for _ in range(150):
        logprobs = torch.log_softmax(table, -1).repeat_interleave(16, 0)
        tokens = torch.multinomial(logprobs.detach().exp().view(-1, 5), 1, generator=generator).view(48, 4)
        right = ((tokens == secret.repeat_interleave(16, 0)).sum(-1) >= 3).tolist()
        solved.append(sum(right) / 48)
        credited = algorithm.credit([answer(str(i // 16), i % 16, right[i], 4) for i in range(48)])
        if credited:
            chosen = torch.nn.functional.pad(logprobs.gather(-1, tokens[..., None])[..., 0], (1, 0))
            new = torch.stack([chosen[int(r.group) * 16 + r.episode] for r in credited])
            batch = collate(credited, pack=False)
            loss = (algorithm.loss(Forward(logprobs=new), batch).terms * batch.weights).sum()
            table.data -= 6.0 * torch.autograd.grad(loss, table)[0]
    assert sum(solved[:3]) / 3 < 0.3
    assert sum(solved[-10:]) / 10 > 0.98


@pytest.mark.parametrize("seed", range(5))
def test_the_reward_model_finds_the_token_that_decides(seed: int) -> None:
    """10 random tokens of 4 symbols; the fourth alone decides. A linear model of tokens, 64 answers x 400 steps."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.zeros(10, 4, requires_grad=True)
    algorithm = Oreal(variant="paper")
    template = [answer(str(i), 0, True, 10).assign(weights=1 / 640, value_weights=1 / 640) for i in range(64)]
    batch = collate([changed(r, returns=[0.0] * 11, advantages=[0.0] * 11) for r in template], pack=False)
    right: Any = None
    for _ in range(400):
        tokens = torch.randint(4, (64, 10), generator=generator)
        right = tokens[:, 3] < 2
        step = batch.with_columns(returns=torch.where(right, 1.0, -1.0)[:, None].expand(64, 11))
        logits = torch.nn.functional.pad(table[torch.arange(10), tokens], (1, 0))
        loss = algorithm.reward_model_loss(Forward(next_values=logits), step)
        table.data -= 3.0 * torch.autograd.grad((loss.terms * step.value_weights).sum(), table)[0]
    spread_by_position = (table - table.mean(-1, keepdim=True)).abs().mean(-1)
    others = torch.cat([spread_by_position[:3], spread_by_position[4:]])
    assert spread_by_position[3] >= 10 * others.mean()
    assert bool(((logits.sum(-1) > 0) == right).all())


def answer(group: str, episode: int, correct: bool, actions: int) -> Sample:
    return sample(
        group=group,
        episode=episode,
        reward=float(correct),
        correct=correct,
        turn_rewards=[0.0],
        token_ids=[0] * (1 + actions),
        turn_ids=[-1] + [0] * actions,
        action_mask=[False] + [True] * actions,
        sampled_logprobs=[0.0] * (1 + actions),
    )
