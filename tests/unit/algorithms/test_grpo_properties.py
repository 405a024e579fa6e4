from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, sqrt
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llmrl.algorithms.grpo import GRPO
from llmrl.batch import Batch, collate
from llmrl.columns import COLUMNS
from llmrl.protocols import Forward
from llmrl.samples import Sample
from tests.builders import changed, row, some

Make = Callable[[Sequence[Sample], Sequence[Tensor]], tuple[Batch, Tensor]]
FORMS: list[dict[str, Any]] = [
    {"loss_type": "grpo"},
    {"loss_type": "dapo", "epsilon_high": 0.28, "delta": 1.5, "num_iterations": 2},
    {"loss_type": "dr_grpo", "max_completion_length": 9, "scale_rewards": "none", "beta": 0.1},
    {"loss_type": "grpo", "scale_rewards": "batch", "beta": 0.2, "kl_estimator": "k2", "minibatches": 2},
    {"loss_type": "dapo", "beta": 0.3, "kl_in_reward": True, "kl_estimator": "k1", "mask_truncated_completions": True},
    {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "num_iterations": 2},
    {"loss_type": "dapo", "importance_sampling_correction": "none", "mask_truncated_completions": True},
    {"loss_type": "cispo", "weight_cap": 1.5, "weight_floor": 0.4, "num_iterations": 2},
    {"loss_type": "cispo", "loss_average": "sequence_sum", "importance_sampling_level": "sequence", "beta": 0.1},
    {"loss_average": "sequence", "importance_sampling_level": "sequence_token", "epsilon": 0.3, "minibatches": 2},
    {"importance_sampling_correction": "token_mask", "off_policy_mask_threshold": 0.1, "num_iterations": 2},
    {"importance_sampling_correction": "sequence_truncate", "scale_rewards": "none", "importance_sampling_cap": 1.5},
    {"importance_sampling_correction": "sequence_mask", "importance_sampling_floor": 0.5, "loss_type": "grpo"},
    {"importance_sampling_correction": "geometric_mask", "importance_sampling_floor": 0.8, "beta": 0.1}
    | {"importance_sampling_cap": 1.3},
    {"importance_sampling_correction": "k3_mask", "importance_sampling_cap": 0.15, "entropy_coef": 0.2},
]


def random_step(seed: int, groups: int = 3, size: int = 4) -> tuple[list[Sample], list[Tensor]]:
    """Ragged rows with gaps in their action masks, and the log-probabilities of the policy being trained."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(n: int, width: float) -> list[float]:
        return [float(x) for x in -1.5 + width * torch.randn(n, generator=generator, dtype=torch.float64)]

    rows, now = [], []
    for group in range(groups):
        for episode in range(size):
            length = int(torch.randint(2, 8, (), generator=generator))
            mask = [False, True, *(bool(x) for x in torch.randint(2, (length - 2,), generator=generator))]
            sampled = numbers(length, 0.4)
            rows.append(
                row(
                    f"g{group}",
                    episode,
                    float(torch.randint(3, (), generator=generator)),
                    actions=length - 1,
                    action_mask=mask,
                    sampled_logprobs=[x if on else 0.0 for x, on in zip(sampled, mask, strict=True)],
                    old_logprobs=[x + 1.5 + y for x, y in zip(sampled, numbers(length, 0.6), strict=True)],
                    ref_logprobs=numbers(length, 0.4),
                    truncated=bool(torch.randint(4, (), generator=generator) == 0),
                )
            )
            now.append(torch.tensor([x + 0.3 * y for x, y in zip(sampled, numbers(length, 1.0), strict=True)]).double())
    return rows, now


def padded(rows: Sequence[Sample], now: Sequence[Tensor], extra: int = 0, junk: float = 0.0) -> tuple[Batch, Tensor]:
    """Collate a sample a row; `junk` stands in every cell that no action token owns, weights excepted."""
    batch = collate(rows, pack=False, dtype=torch.float64)
    wide = {
        name: torch.nn.functional.pad(column, (0, extra), value=COLUMNS[name].padding)
        for name, column in batch.columns.items()
    }
    mask = wide["turn_ids"] >= 0
    for name in ("sampled_logprobs", "old_logprobs", "ref_logprobs", "advantages"):
        if name in wide:
            wide[name] = torch.where(mask, wide[name], junk)
    owners = torch.nn.functional.pad(batch.sample_ids, (0, extra), value=-1)
    new = torch.stack([torch.cat([n, n.new_full((mask.shape[1] - len(n),), junk)]) for n in now])
    return replace(batch, sample_ids=owners, columns=wide), torch.where(mask, new, junk)


def packed(rows: Sequence[Sample], now: Sequence[Tensor]) -> tuple[Batch, Tensor]:
    """Pack all samples into one row."""
    return collate(rows, pack=True, dtype=torch.float64), torch.cat(list(now))[None]


def learn(
    algorithm: GRPO, rows: Sequence[Sample], now: Sequence[Tensor], make: Make = padded, split: int = 1
) -> tuple[float, dict[tuple[str, int], Tensor]]:
    """The objective of a step and its gradient by row, over `split` micro-batches."""
    policy = {(r.group, r.episode): n.clone().requires_grad_() for r, n in zip(rows, now, strict=True)}
    credited = algorithm.credit(rows)
    total = torch.zeros((), dtype=torch.float64)
    for part in (credited[i::split] for i in range(split)):
        if part:
            batch, new = make(part, [policy[r.group, r.episode] for r in part])
            seen = Forward(logprobs=new, entropy=0.5 * new.square())  # any function of the policy serves as its entropy
            total = total + (algorithm.loss(seen, batch).terms * batch.weights).sum()
    if total.requires_grad:
        total.backward()
    return total.item(), {key: torch.zeros_like(n) if n.grad is None else n.grad for key, n in policy.items()}


def require_same(left: dict[Any, Tensor], right: dict[Any, Tensor]) -> None:
    assert left.keys() == right.keys()
    for key, gradient in some(left.items()):
        torch.testing.assert_close(gradient, right[key], rtol=0, atol=1e-12)


STOPPED: dict[tuple[str, int], list[float]] = {}
"""What the oracle reads where a gradient is stopped: the values around which finite differences are taken."""


def oracle(algorithm: GRPO, rows: Sequence[Sample], now: Sequence[Tensor]) -> float:
    """The objective written from the equations, one token at a time; rows are episodes."""
    rewards = []
    for r in rows:
        k1 = sum(o - f for o, f, on in zip(r.old_logprobs, r.ref_logprobs, r.action_mask, strict=True) if on)
        rewards.append(r.reward - (algorithm.beta * k1 if algorithm.kl_in_reward else 0.0))
    spread = _deviation(rewards) + 1e-4
    counted = [not (algorithm.mask_truncated_completions and r.truncated) for r in rows]
    kept = [r for r, on in zip(rows, counted, strict=True) if on]
    tokens = sum(r.actions for r in kept)
    total = 0.0
    for r, n, reward, counts in zip(rows, now, rewards, counted, strict=True):
        siblings = [x for other, x in zip(rows, rewards, strict=True) if other.group == r.group]
        gain = reward - sum(siblings) / len(siblings)
        if max(siblings) - min(siblings) < 1e-6:
            gain = 0.0
        elif algorithm.scale == "group":
            gain /= _deviation(siblings) + 1e-4
        elif algorithm.scale == "batch":
            gain /= spread
        share = {
            "token": 1 / tokens if tokens else 0.0,
            "sequence": 1 / len(kept) / r.actions if kept else 0.0,
            "constant": 1 / len(kept) / (algorithm.max_completion_length or 1) if kept else 0.0,
            "sequence_sum": 1 / len(kept) if kept else 0.0,
        }[algorithm.over]
        total += share * _terms(algorithm, r, n.tolist(), gain) if counts else 0.0
    return total


def _terms(algorithm: GRPO, r: Sample, now: list[float], gain: float) -> float:
    """The terms of a row, summed. Where a gradient is stopped, `now` is read through `STOPPED` if that is set."""
    held = STOPPED.get((r.group, r.episode), now)
    chosen = [t for t, on in enumerate(r.action_mask) if on]
    means = [exp(sum(of[t] - r.old_logprobs[t] for t in chosen) / len(chosen)) for of in (now, held)]
    drift = sum(r.sampled_logprobs[t] - held[t] for t in chosen) / len(chosen)
    left = algorithm.off_policy_mask_threshold is not None and gain < 0 and drift > algorithm.off_policy_mask_threshold
    total = 0.0
    for t in chosen:
        ratio, held_ratio = (exp(of[t] - r.old_logprobs[t]) for of in (now, held))
        if algorithm.importance_sampling_level == "sequence":
            ratio, held_ratio = means
        elif algorithm.importance_sampling_level == "sequence_token":
            ratio = means[1] * exp(now[t] - held[t])
        term = 0.0 if left else _policy_term(algorithm, ratio, held_ratio, now[t], gain)
        term *= _correction(algorithm, r, chosen, t)
        distance = now[t] - r.ref_logprobs[t]
        if algorithm.beta and not algorithm.kl_in_reward:
            k3 = exp(-distance) - 1 + distance
            term += algorithm.beta * (distance**2 / 2 if algorithm.kl_estimator == "k2" else k3)
        total += term - algorithm.entropy_coef * 0.5 * now[t] ** 2
    return total


def _policy_term(algorithm: GRPO, ratio: float, held: float, now: float, gain: float) -> float:
    if algorithm.loss_type == "cispo":
        return -min(max(held, algorithm.weight_floor), algorithm.weight_cap) * gain * now
    low, high = 1 - algorithm.epsilon, 1 + (algorithm.epsilon_high or algorithm.epsilon)
    term = max(-gain * ratio, -gain * min(max(ratio, low), high))
    return min(term, -gain * algorithm.delta) if algorithm.delta is not None and gain < 0 else term


def _correction(algorithm: GRPO, r: Sample, chosen: Sequence[int], t: int) -> float:
    gaps = [r.old_logprobs[i] - r.sampled_logprobs[i] for i in chosen]
    own, product, mean = exp(r.old_logprobs[t] - r.sampled_logprobs[t]), exp(sum(gaps)), exp(sum(gaps) / len(gaps))
    k3 = sum(exp(gap) - 1 - gap for gap in gaps) / len(gaps)
    mode, (floor, cap) = algorithm.importance_sampling_correction, algorithm.correction.bounds
    return {
        "none": 1.0,
        "token_truncate": min(max(own, floor), cap),
        "token_mask": own if floor <= own <= cap else 0.0,
        "sequence_truncate": min(max(product, floor), cap),
        "sequence_mask": product if floor <= product <= cap else 0.0,
        "geometric_mask": 1.0 if floor <= mean <= cap else 0.0,
        "k3_mask": 1.0 if k3 <= cap else 0.0,
    }[mode]


def _deviation(numbers: Sequence[float]) -> float:
    mean = sum(numbers) / len(numbers)
    return sqrt(sum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))


forms = pytest.mark.parametrize("options", FORMS, ids=lambda o: ",".join(map(str, o.values())))


@forms
def test_the_objective_is_that_of_the_equations(options: dict[str, Any]) -> None:
    algorithm = GRPO(**options)
    for seed in range(20):
        rows, now = random_step(seed)
        assert learn(algorithm, rows, now)[0] == pytest.approx(oracle(algorithm, rows, now), abs=1e-10)


@forms
def test_the_gradient_is_that_of_finite_differences(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = GRPO(**options)
    rows, now = random_step(seed=5, groups=2, size=3)
    gradients, width = learn(algorithm, rows, now)[1], 1e-6
    for r, n in zip(rows, now, strict=True):
        monkeypatch.setitem(STOPPED, (r.group, r.episode), n.tolist())
    for i, r in enumerate(rows):
        for t in range(len(r.token_ids)):
            ends = []
            for shift in (width, -width):
                moved = [n.clone() for n in now]
                moved[i][t] += shift
                ends.append(oracle(algorithm, rows, moved))
            want = (ends[0] - ends[1]) / (2 * width)
            assert float(gradients[r.group, r.episode][t]) == pytest.approx(want, abs=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), form=st.sampled_from(FORMS), split=st.integers(2, 5), extra=st.integers(0, 4))
def test_no_layout_changes_the_gradient(seed: int, form: dict[str, Any], split: int, extra: int) -> None:
    algorithm = GRPO(**form)
    rows, now = random_step(seed)
    value, want = learn(algorithm, rows, now)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    layouts = [
        learn(algorithm, rows, now, split=split),
        learn(algorithm, rows, now, packed),
        learn(algorithm, rows, now, packed, split=split),
        learn(algorithm, rows, now, lambda r, n: padded(r, n, extra, junk=7.5)),
        learn(algorithm, [rows[i] for i in order], [now[i] for i in order]),
    ]
    for other, gradient in layouts:
        assert other == pytest.approx(value, abs=1e-12)
        require_same(gradient, want)


@forms
def test_equal_rewards_teach_exactly_nothing(options: dict[str, Any]) -> None:
    algorithm = GRPO(**options | {"beta": 0.0, "kl_estimator": "k3", "kl_in_reward": False, "entropy_coef": 0.0})
    rows, now = random_step(seed=1)
    equal = [replace(r, reward=0.7) for r in rows]
    assert algorithm.credit(equal) == []
    with_signal = [replace(r, reward=r.reward if r.group == "g0" else 0.7) for r in rows]
    assert {r.group for r in algorithm.credit(with_signal)} == {"g0"}
    assert all(not g.any() for (group, _), g in learn(algorithm, with_signal, now)[1].items() if group != "g0")


@forms
def test_rows_that_are_dropped_had_no_gradient(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rows, now = random_step(seed=3)
    rows = [replace(r, reward=0.5) if r.group == "g1" else r for r in rows]
    algorithm = GRPO(**options)
    dropped, want = len(algorithm.credit(rows)), learn(algorithm, rows, now)
    monkeypatch.setattr("llmrl.algorithms.grpo.has_credit", lambda _: True)
    got = learn(algorithm, rows, now)
    assert got[0] == pytest.approx(want[0], abs=1e-15)
    require_same(got[1], want[1])
    if not algorithm.beta and not algorithm.entropy_coef:
        assert len(algorithm.credit(rows)) > dropped


def test_one_optimiser_step_needs_no_old_log_probabilities() -> None:
    rows, now = random_step(seed=4)
    own = [n.tolist() for n in now]
    asked = learn(GRPO(), [changed(r, old_logprobs=n) for r, n in zip(rows, own, strict=True)], now)
    left_out = learn(GRPO(), [changed(r, old_logprobs=None) for r in rows], now)
    assert left_out[0] == pytest.approx(asked[0], abs=1e-15)
    require_same(left_out[1], asked[1])


def test_no_correction_where_engine_and_trainer_agree() -> None:
    rows, now = random_step(seed=6)
    rows = [changed(r, sampled_logprobs=r.old_logprobs) for r in rows]
    value, gradient = learn(GRPO(num_iterations=2), rows, now)
    bare, bare_gradient = learn(GRPO(num_iterations=2, importance_sampling_correction="none"), rows, now)
    assert value == bare
    assert all(torch.equal(gradient[key], bare_gradient[key]) for key in gradient)
