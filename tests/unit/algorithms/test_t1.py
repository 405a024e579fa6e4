from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, nan
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmrl.algorithms.t1 import T1
from llmrl.batch import Batch, collate
from llmrl.errors import RecipeError
from llmrl.ops.logprobs import token_logprobs
from llmrl.plugins import build
from llmrl.protocols import Adaptive, Forward
from llmrl.samples import Sample
from tests.builders import changed, row

PLAIN = T1(beta=0, entropy_coef=0.0, importance_sampling_correction="none")


EIGHT = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def credit(algorithm: T1, rewards: Sequence[float] = EIGHT) -> dict[int, tuple[float, float]]:
    """By episode: the advantage and weight of its first token."""
    rows = algorithm.credit([row(episode=i, reward=reward) for i, reward in enumerate(rewards)])
    return {r.episode: (r.advantages[1], r.weights[1]) for r in rows}


def test_a_subset_keeps_the_advantages_of_all() -> None:
    # 1 - 1/7 = 6/7 and 0 - 2/7, from all eight; within the four they would be +-2/3.
    found = credit(replace(PLAIN, train_k=4))
    assert {i: gain for i, (gain, _) in found.items()} == pytest.approx({2: 6 / 7, 6: 6 / 7, 0: -2 / 7, 1: -2 / 7})
    assert {i: gain for i, (gain, _) in credit(PLAIN).items()} == pytest.approx(
        {i: 6 / 7 if i in (2, 6) else -2 / 7 for i in range(8)}
    )


def test_a_subset_is_weighed_so_that_no_side_counts_too_much() -> None:
    # A quarter of all is good, half of the chosen: 1/2. The others 3/4 over 1/2 = 3/2. Eight tokens.
    weights = {i: weight for i, (_, weight) in credit(replace(PLAIN, train_k=4)).items()}
    assert weights == pytest.approx({2: 0.5 / 8, 6: 0.5 / 8, 0: 1.5 / 8, 1: 1.5 / 8})
    plain = credit(replace(PLAIN, train_k=4, reweight_subset=False))
    assert {weight for _, weight in plain.values()} == {1 / 8}
    whole, part = credit(PLAIN), credit(replace(PLAIN, train_k=4))
    assert sum(abs(gain) * weight for gain, weight in part.values()) == pytest.approx(
        sum(abs(gain) * weight for gain, weight in whole.values())
    )


@pytest.mark.parametrize(
    ("rewards", "chosen"),
    [
        ([1, 1, 1, 1, 1, 1, 1, 0], {0, 1, 2, 7}),  # what one side lacks comes from the other
        ([0, 0, 0, 0, 0, 0, 0, 1], {0, 1, 2, 7}),
        ([1, 0], {0, 1}),
        ([nan, 1, nan, 0, 1], {1, 3, 4}),
    ],
)
def test_which_answers_are_chosen(rewards: list[float], chosen: set[int]) -> None:
    assert set(credit(replace(PLAIN, train_k=4), rewards)) == chosen


def test_unanimous_groups_teach_only_entropy() -> None:
    assert credit(PLAIN, [1.0] * 4) == {}
    found = credit(replace(PLAIN, entropy_coef=0.1), [1.0] * 4)
    assert {gain for gain, _ in found.values()} == {0.0}
    assert len(credit(replace(PLAIN, entropy_coef=0.1, train_k=2), [1.0] * 4)) == 2


def test_entropy_of_the_case() -> None:
    # logsumexp(2, 1, 0, -1) - sum of p z.
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    with torch.no_grad():
        entropy = token_logprobs(logits, lambda x: x, torch.tensor([0]), chunks=1)[1]
    assert entropy.item() == pytest.approx(0.9475369639754255, abs=1e-9)
    z = [2.0, 1.0, 0.0, -1.0]
    whole = log(sum(exp(x) for x in z))
    assert entropy.item() == pytest.approx(whole - sum(exp(x - whole) * x for x in z), abs=1e-12)


def test_the_entropy_bonus_of_the_case() -> None:
    # -0.001 * (.5 + 1.5)/2; the masked third token weighs nothing.
    algorithm = replace(PLAIN, entropy_coef=1e-3)
    both = [row(episode=i, actions=3, action_mask=[False, True, True, False]) for i in (0, 1)]
    batch = collate(algorithm.credit(both)[:1], pack=False)
    entropy = torch.tensor([[3.0, 0.5, 1.5, 7.0]], requires_grad=True)
    loss = algorithm.loss(Forward(logprobs=torch.full((1, 4), -1.0), entropy=entropy), batch)
    total = (loss.terms * batch.weights * 2).sum()  # the half of two equal rows
    assert total.item() == pytest.approx(-0.001, abs=1e-9)
    assert torch.autograd.grad(total, entropy)[0].tolist() == [[0.0, pytest.approx(-5e-4), pytest.approx(-5e-4), 0.0]]
    assert algorithm.updates(0)[0].entropy_grad
    assert not PLAIN.updates(0)[0].entropy_grad
    assert loss.metrics["entropy"][0, 1].item() == 0.5
    assert loss.metrics["entropy_coef"][0, 1].item() == pytest.approx(1e-3)
    assert not any(values.requires_grad for values in loss.metrics.values())


def test_no_bonus_is_paid_while_the_control_has_stopped_it() -> None:
    """The coefficient stays for later steps; the terms of this one do not see the entropy."""
    stopped = replace(PLAIN, entropy_coef=0.5, entropy_control="adaptive", bonus_is_paid=False)
    batch = collate(stopped.credit([row(episode=i, reward=float(i)) for i in (0, 1)]), pack=False)
    logprobs = torch.full(batch.token_ids.shape, -1.0)
    low, high = (
        stopped.loss(Forward(logprobs=logprobs, entropy=torch.full_like(logprobs, nats)), batch).terms
        for nats in (0.1, 5.0)
    )
    assert torch.equal(low, high)
    assert not stopped.updates(0)[0].entropy_grad


def test_divergence_in_the_reward_is_taken_off_before_the_baseline() -> None:
    # Summed log(old/ref) of the first is log(.5/.4) + log(.2/.3), of the second 0.
    old, ref = [0.0, log(0.5), log(0.2)], [0.0, log(0.4), log(0.3)]
    rows = [
        row(episode=0, reward=1.0, old_logprobs=old, ref_logprobs=ref),
        row(episode=1, reward=0.0, old_logprobs=old, ref_logprobs=old),
    ]
    first, second = replace(PLAIN, beta=0.1).credit(rows)
    gain = 1.0 - 0.1 * (log(0.5 / 0.4) + log(0.2 / 0.3))
    assert first.advantages[1] == pytest.approx(gain)
    assert second.advantages[1] == pytest.approx(-gain)


def steps(algorithm: Any, entropies: Sequence[float]) -> list[T1]:
    found = []
    for step, entropy in enumerate(entropies):
        algorithm = algorithm.adapted(step, {"entropy": entropy})
        found.append(algorithm)
    return found


def test_the_guard_halves_after_ten_steps_in_a_row() -> None:
    assert isinstance(T1(), Adaptive)
    found = steps(T1(entropy_coef=0.4), [1.0, *[1.6] * 9, 1.4, *[1.6] * 20, 1.5])
    assert [each.entropy_coef for each in found] == [0.4] * 20 + [0.2] * 10 + [0.1] * 2
    assert found[-1].starting_entropy == 1.0


def test_the_adaptive_coefficient_follows_the_starting_entropy() -> None:
    found = steps(T1(entropy_coef=0.007, entropy_control="adaptive"), [1.0, 0.5, 0.9, 1.1, 1.2, 1.3, 1.4, 0.8])
    assert [each.entropy_coef for each in found] == pytest.approx(
        [0.007, 0.012, 0.017, 0.012, 0.007, 0.002, 0.0, 0.005]
    )
    assert [each.bonus for each in found] == pytest.approx([0.007, 0.012, 0.017, 0.0, 0.0, 0.0, 0.0, 0.005])
    assert steps(T1(entropy_control="adaptive"), [1.0] + [0.1] * 50)[-1].entropy_coef == 0.05
    assert len(credit(replace(found[3], beta=0), [1.0, 1.0])) == 2, "the entropy of all is still measured"


def test_what_cannot_be_measured_changes_nothing() -> None:
    algorithm = T1(starting_entropy=1.0)
    assert algorithm.adapted(0, {}) is algorithm
    assert algorithm.adapted(0, {"entropy": nan}) is algorithm
    fixed = T1(entropy_control="none")
    assert fixed.adapted(0, {"entropy": 9.0}) is fixed


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, {"old_logprobs", "ref_logprobs"}),
        ({"beta": 0.0}, set()),
        ({"kl_estimator": "k3"}, {"ref_logprobs"}),
        ({"kl_estimator": "k2", "minibatches": 2}, {"old_logprobs", "ref_logprobs"}),
    ],
)
def test_needs(options: dict[str, Any], needs: set[str]) -> None:
    assert T1(**options).needs() == needs


def test_ratios_against_another_distribution_are_refused() -> None:
    rows = [replace(row(episode=i, reward=float(i)), semantics="renormalised") for i in (0, 1)]
    with pytest.raises(RecipeError, match="'renormalised'"):
        T1(beta=0).credit(rows)
    assert len(PLAIN.credit(rows)) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_k": 1}, "train_k 1"),
        ({"entropy_coef": -1}, "entropy_coef"),
        ({"entropy_guard": 1.0}, "entropy_guard"),
        ({"importance_sampling_cap": 0.5}, "importance_sampling_cap"),
        ({"minibatches": 0}, "minibatches"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("algorithm", {"name": "t1", **options})


def test_an_algorithm_is_a_value() -> None:
    algorithm = T1(train_k=4, starting_entropy=1.0)
    assert pickle.loads(pickle.dumps(algorithm)) == algorithm
    assert hash(algorithm) == hash(replace(algorithm))


# Against the equations

FORMS: list[dict[str, Any]] = [
    {"beta": 0.0, "entropy_coef": 0.1},
    {"beta": 0.2, "minibatches": 2, "train_k": 3},
    {"beta": 0.2, "kl_estimator": "k3", "train_k": 2, "num_iterations": 2, "epsilon_high": 0.4, "entropy_coef": 0.3},
    {"beta": 0.2, "kl_estimator": "k2", "minibatches": 2, "importance_sampling_correction": "none"},
]
forms = pytest.mark.parametrize("options", FORMS, ids=lambda o: ",".join(map(str, o.values())))
COLUMNS = ("sampled_logprobs", "old_logprobs", "ref_logprobs", "advantages", "weights")


def random_step(seed: int) -> tuple[list[Sample], list[Tensor], list[Tensor]]:
    """Rows with gaps in their masks, the policy's log-probabilities, and its entropies."""
    generator = torch.Generator().manual_seed(seed)
    rows, now, entropies = [], [], []
    for i in range(12):
        length = int(torch.randint(2, 8, (), generator=generator))
        mask = [False, True, *(bool(x) for x in torch.randint(2, (length - 2,), generator=generator))]
        draws = -1.5 + 0.4 * torch.randn(4, length, generator=generator, dtype=torch.float64)
        columns = dict(zip(("sampled_logprobs", "old_logprobs", "ref_logprobs"), draws[:3].tolist(), strict=True))
        reward = float(torch.randint(3, (), generator=generator))
        rows.append(row(f"g{i // 4}", i % 4, reward, length - 1, action_mask=mask, **columns))
        now.append(draws[3])
        entropies.append(torch.rand(length, generator=generator, dtype=torch.float64))
    return rows, now, entropies


def double(rows: Sequence[Sample], pack: bool, junk: float) -> Batch:
    """The batch in float64; `junk` stands in every cell that no action token owns, weights excepted."""
    batch = collate(rows, pack, dtype=torch.float64)
    named = (name for name in COLUMNS if name in batch.columns and name != "weights")
    return batch.with_columns(**{name: torch.where(batch.action_mask, batch.get(name), junk) for name in named})


def learn(
    algorithm: T1, step: Any, split: int = 1, pack: bool = False, junk: float = 0.0
) -> tuple[float, list[Tensor], list[Tensor]]:
    """The objective of a step, and its gradients by log-probabilities and by entropies."""
    rows, now, entropies = step
    rows = rows if "old_logprobs" in algorithm.needs() else [changed(r, old_logprobs=None) for r in rows]
    leaves = [n.clone().requires_grad_() for n in [*now, *entropies]]
    index = {(r.group, r.episode): i for i, r in enumerate(rows)}
    credited = algorithm.credit(rows)
    total = sum(n.sum() * 0 for n in leaves)
    for part in (credited[i::split] for i in range(split)):
        if part:
            batch, at = double(part, pack, junk), [index[r.group, r.episode] for r in part]
            grids = [torch.full(batch.sample_ids.shape, junk, dtype=torch.float64) for _ in range(2)]
            for grid, offset in zip(grids, (0, len(rows)), strict=True):
                for i, place in enumerate(at):
                    grid[(batch.sample_ids == i) & batch.action_mask] = leaves[place + offset][rows[place].action_mask]
            loss = algorithm.loss(Forward(logprobs=grids[0], entropy=grids[1]), batch)
            total = total + (loss.terms * batch.weights).sum()
    assert isinstance(total, Tensor)
    gradients = list(torch.autograd.grad(total, leaves))
    return total.item(), gradients[: len(rows)], gradients[len(rows) :]


def oracle(algorithm: T1, step: Any, before: Sequence[Tensor] | None = None) -> float:
    """The objective from the equations, one token at a time; `before` stands for the policy before the step."""
    rows, now, entropies = step
    credited = {(r.group, r.episode): r for r in algorithm.credit(rows)}
    tokens = sum(r.actions for r in credited.values())
    total = 0.0
    for i, r in enumerate(rows):
        if (r.group, r.episode) not in credited:
            continue
        siblings = [s for s in rows if s.group == r.group]
        paid = [_paid(algorithm, s) for s in siblings]
        gain = len(paid) / (len(paid) - 1) * (_paid(algorithm, r) - sum(paid) / len(paid))
        gain = 0.0 if max(paid) - min(paid) < 1e-6 else gain
        good = [x > sum(paid) / len(paid) and max(paid) - min(paid) >= 1e-6 for x in paid]
        kept = [side for s, side in zip(siblings, good, strict=True) if (s.group, s.episode) in credited]
        factor = good.count(gain > 0) / len(good) / (kept.count(gain > 0) / len(kept))
        for t in (t for t, on in enumerate(r.action_mask) if on):
            x = float(now[i][t])
            old = r.old_logprobs[t] if before is None else float(before[i][t])
            ratio = exp(x - old)
            term = max(-gain * ratio, -gain * min(max(ratio, 1 - algorithm.epsilon), 1 + algorithm.high))
            if algorithm.importance_sampling_correction != "none":
                term *= min(exp(old - r.sampled_logprobs[t]), 2.0)
            d = x - r.ref_logprobs[t]
            if algorithm.kl_estimator != "k1":
                term += algorithm.beta * (d * d / 2 if algorithm.kl_estimator == "k2" else exp(-d) - 1 + d)
            total += factor * (term - algorithm.entropy_coef * float(entropies[i][t])) / tokens
    return total


def _paid(algorithm: T1, r: Sample) -> float:
    pairs = zip(r.old_logprobs, r.ref_logprobs, r.action_mask, strict=True)
    k1 = sum(old - ref for old, ref, on in pairs if on)
    return r.reward - (algorithm.beta * k1 if algorithm.kl_estimator == "k1" else 0.0)


@forms
def test_the_objective_is_that_of_the_equations(options: dict[str, Any]) -> None:
    algorithm = T1(**options)
    once = "old_logprobs" not in algorithm.needs()
    for seed in range(20):
        step = random_step(seed)
        assert learn(algorithm, step)[0] == pytest.approx(oracle(algorithm, step, step[1] if once else None), abs=1e-10)


@forms
def test_the_gradient_is_that_of_finite_differences(options: dict[str, Any]) -> None:
    algorithm, width = T1(**options), 1e-6
    rows, now, entropies = step = random_step(5)
    before = now if "old_logprobs" not in algorithm.needs() else None
    _, by_logprob, by_entropy = learn(algorithm, step)
    for which, gradients in ((now, by_logprob), (entropies, by_entropy)):
        for i, r in enumerate(rows):
            for t in range(len(r.token_ids)):
                ends = []
                for shift in (width, -width):
                    moved = [n.clone() for n in which]
                    moved[i][t] += shift
                    ends.append(
                        oracle(
                            algorithm,
                            (rows, moved if which is now else now, entropies if which is now else moved),
                            before,
                        )
                    )
                assert float(gradients[i][t]) == pytest.approx((ends[0] - ends[1]) / (2 * width), abs=1e-7)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), form=st.sampled_from(FORMS), split=st.integers(2, 5))
def test_no_layout_changes_the_gradient(seed: int, form: dict[str, Any], split: int) -> None:
    algorithm, step = T1(**form), random_step(seed)
    value, *gradients = learn(algorithm, step)
    for other in (
        learn(algorithm, step, split=split),
        learn(algorithm, step, pack=True, junk=-3.3),
        learn(algorithm, step, split=split, junk=5.5),
    ):
        assert other[0] == pytest.approx(value, abs=1e-12)
        for left, right in zip(gradients, other[1:], strict=True):
            for a, b in zip(left, right, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.001, 0.05])
def test_an_entropy_bonus_keeps_both_good_answers(alpha: float) -> None:
    """A decision of six, two of them equally good; 16 answers, step 1, 2000 updates; six runs side by side.

    A run is a group, so that a step of 6 undoes the mean over six groups. Without a bonus the policy drifts to one of
    the two by chance: about one run in eight still has more than .2 nat between them, hence the median.
    """
    generator = torch.Generator().manual_seed(0)
    algorithm = T1(beta=0, entropy_coef=alpha, entropy_control="none", importance_sampling_correction="none")
    keeps = replace(algorithm, entropy_coef=1.0)  # keeps unanimous groups too, at advantage 0
    gains = torch.tensor([[r.advantages[1] for r in keeps.credit(runs([k]))] for k in range(17)])
    batch, logits = collate(keeps.credit(runs([8] * 6)), pack=False), torch.zeros(6, 6, requires_grad=True)
    for _ in range(2000):
        logprobs = torch.log_softmax(logits, -1)
        drawn = torch.multinomial(logprobs.detach().exp(), 16, replacement=True, generator=generator)
        drawn = drawn.sort(-1).values  # the good ones first, as `runs` has them
        step = batch.with_columns(advantages=padded(gains[(drawn < 2).sum(-1)]))
        entropy = -(logprobs.exp() * logprobs).sum(-1, keepdim=True).expand(6, 16)
        forward = Forward(logprobs=padded(logprobs.gather(-1, drawn)), entropy=padded(entropy))
        loss = (algorithm.loss(forward, step).terms * step.weights).sum()
        logits.data -= 6.0 * torch.autograd.grad(loss, logits)[0]
    good = torch.softmax(logits, -1)[:, :2]
    assert good.sum(-1).min() > 0.99
    choice = good / good.sum(-1, keepdim=True)
    between = -(choice * choice.log()).sum(-1)
    assert between.min() >= 0.6 if alpha == 0.05 else between.median() <= 0.2


def runs(good: Sequence[int]) -> list[Sample]:
    """Groups of 16 answers of one token, the first of them good."""
    return [row(str(g), i, float(i < k), 1) for g, k in enumerate(good) for i in range(16)]


def padded(numbers: Tensor) -> Tensor:
    """(96, 2) of (6, 16): a prompt token before each."""
    return torch.nn.functional.pad(numbers.reshape(-1, 1), (1, 0))
