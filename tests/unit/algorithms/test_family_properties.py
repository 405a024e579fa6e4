"""The properties of `llmrl verify`, for more of the family's options than the forms that ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.reinforce_pp import ReinforcePP
from llmrl.algorithms.rloo import RLOO
from llmrl.batch import collate
from llmrl.checks.verify.form import Form
from llmrl.checks.verify.invariances import invariances
from llmrl.checks.verify.oracles.compare import oracle
from llmrl.checks.verify.oracles.group import grpo
from llmrl.checks.verify.oracles.reinforce import reinforce_pp, rloo
from llmrl.checks.verify.toy import learn
from llmrl.errors import RecipeError
from llmrl.protocols import Forward
from llmrl.samples import Sample
from tests.builders import changed, row

Family = GRPO | RLOO | ReinforcePP
PLAIN: dict[str, Any] = {"importance_sampling_correction": "none"}
BARE: dict[str, Any] = {"beta": 0.0, **PLAIN}

RATIO: dict[str, Any] = {"loss_type": "grpo", "importance_sampling_level": "sequence_token", "epsilon": 0.05}
FLOOR: dict[str, Any] = {"importance_sampling_floor": 0.0}  # so that not everything is rejected
FORMS = [
    Form(name="gspo_token", algorithm=GRPO(**RATIO, num_iterations=2), oracle=grpo, baseline=True),
    Form(
        name="luspo",
        algorithm=GRPO(importance_sampling_level="sequence", loss_average="sequence_sum", minibatches=2),
        oracle=grpo,
        baseline=True,
    ),
    Form(
        name="cispo_sequence",
        algorithm=GRPO(loss_type="cispo", importance_sampling_level="sequence", weight_floor=0.9, weight_cap=1.1),
        oracle=grpo,
        baseline=True,
    ),
    *(
        Form(
            name=mode,
            algorithm=GRPO(importance_sampling_correction=mode, importance_sampling_cap=cap, num_iterations=2, **FLOOR),  # type: ignore[arg-type]
            oracle=grpo,
            baseline=True,
        )
        for mode, cap in (
            ("token_mask", 1.2),
            ("sequence_truncate", 1.2),
            ("sequence_mask", 1.2),
            ("geometric_mask", 1.3),
            ("k3_mask", 0.05),
        )
    ),
    Form(name="rloo", algorithm=RLOO(beta=0.2), oracle=rloo),
    Form(name="rloo_off_policy", algorithm=RLOO(minibatches=2, epsilon_high=0.4), oracle=rloo),
    Form(
        name="rloo_product",
        algorithm=RLOO(
            minibatches=2, importance_sampling_level="product", epsilon=0.5, importance_sampling_correction="token_mask"
        ),
        oracle=rloo,
    ),
    Form(name="reinforce_pp", algorithm=ReinforcePP(gamma=0.9, beta=0.1), oracle=reinforce_pp),
    Form(
        name="reinforce_pp_baseline",
        algorithm=ReinforcePP(baseline="group", num_iterations=2, delta=1.5, mask_truncated_completions=True),
        oracle=reinforce_pp,
    ),
]
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


@forms
def test_value_and_gradient_are_those_of_the_equations(form: Form) -> None:
    wrong = [check for check in oracle(form) if not check.ok]
    assert not wrong


@forms
def test_what_cannot_matter_does_not(form: Form) -> None:
    assert not [check for check in invariances(form) if not check.ok]


@pytest.mark.parametrize(
    ("algorithm", "rate"),
    [
        (GRPO(loss_type="cispo"), 20.0),
        (GRPO(**RATIO), 20.0),
        (RLOO(beta=0.0), 15.0),
        (ReinforcePP(beta=0.0), 20.0),
        (ReinforcePP(beta=0.0, baseline="group"), 20.0),
    ],
    ids=["cispo", "gspo_token", "rloo", "reinforce_pp", "reinforce_pp_baseline"],
)
def test_a_table_learns_a_secret(algorithm: GRPO | RLOO | ReinforcePP, rate: float) -> None:
    success = learn(Form(name="toy", algorithm=algorithm, rates={"policy": rate}), seed=0, updates=70)
    assert sum(success[:3]) / 3 < 0.3
    assert sum(success[-5:]) / 5 > 0.95


# Beside one another


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
        rows.append(row(f"g{i // size}", i % size, reward, action_mask=mask, **columns))
        now.append(drawn[3])
    return rows, now


def gradient(algorithm: Family, rows: Sequence[Sample], now: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of the step's objective, for each row that credit kept."""
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


def test_dr_grpo_and_rloo_have_proportional_gradients() -> None:
    # Without scaling, the mean of the others differs from the mean of all by the factor G / (G - 1).
    rows, now = random_step(seed=3)
    ours = gradient(GRPO(**PLAIN, scale_rewards="none", loss_average="sequence_sum"), rows, now)
    theirs = gradient(RLOO(**BARE), [changed(r, old_logprobs=None) for r in rows], now)
    one_step = gradient(
        GRPO(**PLAIN, scale_rewards="none", loss_average="sequence_sum"),
        [changed(r, old_logprobs=None) for r in rows],
        now,
    )
    for dr, loo in zip(one_step, theirs, strict=True):
        torch.testing.assert_close(dr, loo * 3 / 4, rtol=1e-6, atol=1e-9)
    assert any(not torch.allclose(a, b) for a, b in zip(ours, one_step, strict=True))


def test_cispo_at_a_ratio_of_one_is_reinforce() -> None:
    rows, now = random_step(seed=4)
    rows = [changed(r, old_logprobs=None) for r in rows]
    cispo = gradient(GRPO(**PLAIN, loss_type="cispo"), rows, now)
    credited = {(r.group, r.episode): r for r in GRPO(**PLAIN).credit(rows)}
    for r, got in zip(rows, cispo, strict=True):
        kept = credited.get((r.group, r.episode))
        if kept is None:
            assert not got.any()
            continue
        want = [-a * w for a, w in zip(kept.advantages, kept.weights, strict=True)]
        assert got.tolist() == pytest.approx(want, abs=1e-7)


def test_no_token_loses_its_gradient_under_cispo() -> None:
    base = [row(episode=0, reward=1.0, old_logprobs=[0.0, -5.0, -1.0]), row(episode=1, old_logprobs=[0.0, -1.0, -5.0])]
    now = [torch.tensor([0.0, -1.0, -5.0]), torch.tensor([0.0, -5.0, -1.0])]
    clipped, kept = (gradient(GRPO(**PLAIN, loss_type=kind), base, now) for kind in ("dapo", "cispo"))  # type: ignore[arg-type]
    assert [bool(x) for g in clipped for x in g[1:]] == [False, True, False, True]  # a gain that rose, a loss that fell
    assert all(bool(x) for g in kept for x in g[1:])


ALGORITHMS: list[Family] = [one.algorithm for one in FORMS]  # type: ignore[misc]
algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=[one.name for one in FORMS])


@algorithms
def test_equal_rewards_teach_exactly_nothing(algorithm: Family) -> None:
    bare = replace(algorithm, beta=0.0)
    bare = replace(bare, gamma=1.0) if isinstance(bare, ReinforcePP) else bare  # discounted, an early token has less
    rows, _ = random_step(seed=9)
    assert bare.credit([replace(r, reward=0.1) for r in rows]) == []


@algorithms
def test_what_nobody_could_judge_leaves_everything(algorithm: Family) -> None:
    rows, _ = random_step(seed=10)
    broken = [replace(r, reward=nan) if r.episode == 1 else r for r in rows]
    with_broken, without = algorithm.credit(broken), algorithm.credit([r for r in rows if r.episode != 1])
    assert with_broken == without
    assert all(r.episode != 1 for r in with_broken)


@algorithms
def test_masked_truncated_answers_leave_the_denominator(algorithm: Family) -> None:
    masking = replace(algorithm, mask_truncated_completions=True)
    rows, _ = random_step(seed=11)
    cut = [replace(r, truncated=r.episode == 0) for r in rows]
    kept = masking.credit(cut)
    assert kept
    assert all(r.episode != 0 for r in kept)
    # Shares of what is left: N tokens of B answers, n of them the row's own.
    left = [int(r.action_mask.sum()) for r in cut if r.episode != 0]
    unit = "token" if isinstance(algorithm, ReinforcePP) else algorithm.over
    for r in kept:
        n = int(r.action_mask.sum())
        share = {"token": sum(left), "sequence": len(left) * n, "sequence_sum": len(left)}[unit]
        assert np.asarray(r.weights)[r.action_mask] == pytest.approx([1 / share] * n)
        assert not np.asarray(r.weights)[~r.action_mask].any()


@algorithms
def test_ratios_against_another_distribution_are_refused(algorithm: Family) -> None:
    rows = [replace(r, semantics="raw") for r in random_step(seed=1)[0]]
    with pytest.raises(RecipeError, match="'raw'"):
        algorithm.credit(rows)
    assert replace(algorithm, importance_sampling_correction="none").credit(rows)
