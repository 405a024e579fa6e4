from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, nan
from typing import Any

import pytest
import torch

from llmrl.algorithms.oreal import Oreal, top_fraction
from llmrl.batch import Batch, collate
from llmrl.ops.credit import leave_one_out
from llmrl.ops.scores import running_mean
from llmrl.plugins import build
from llmrl.protocols import Forward, Measured
from llmrl.samples import Sample
from tests import builders
from tests.builders import some


def row(group: str = "g", episode: int = 0, correct: bool | None = True, actions: int = 2, **columns: Any) -> Sample:
    """A right answer is worth 1."""
    reward = columns.pop("reward", float(bool(correct)))
    return builders.row(group, episode, reward, actions, correct=correct, **columns)


def double(rows: Sequence[Sample], pack: bool = False) -> Batch:
    """Collate, with every column in float64."""
    return collate(rows, pack, dtype=torch.float64)


# The case `oreal_loss`: a right answer of three tokens and a wrong one of two, advantages +-4/3.
RIGHT: dict[str, Any] = {
    "values": [9.0, 0.2, 1.0, 2.0],
    "ref_logprobs": [0.0, -0.916290731874155, -1.2039728043259361, -0.2231435513142097],
}
WRONG: dict[str, Any] = {"values": [9.0, 0.5, -1.5], "ref_logprobs": [0.0, -0.6931471805599453, -0.6931471805599453]}
NOW_RIGHT = [0.0, -0.6931471805599453, -1.3862943611198906, -0.2231435513142097]
NOW_WRONG = [0.0, -0.916290731874155, -0.5108256237659907, 0.0]


def worked() -> list[Sample]:
    """Four answers of a problem, alike in pairs, so that whichever pair is drawn is that of the case."""
    return [
        row(episode=0, actions=3, **RIGHT),
        row(episode=1, correct=False, **WRONG),
        row(episode=2, correct=False, **WRONG),
        row(episode=3, actions=3, **RIGHT),
    ]


def test_the_advantages_are_those_of_the_others_mean() -> None:
    # [1, -1, -1, 1]: 1 - (-1 - 1 + 1)/3 = 4/3. [-1, -1, -1, 1]: -1 - (-1 - 1 + 1)/3 = -2/3 and 1 + 1 = 2.
    assert leave_one_out([1, -1, -1, 1]) == pytest.approx([4 / 3, -4 / 3, -4 / 3, 4 / 3], abs=1e-12)
    assert leave_one_out([-1, -1, -1, 1]) == pytest.approx([-2 / 3, -2 / 3, -2 / 3, 2], abs=1e-12)
    rows = Oreal(token_weights="none", eta=1.0, beta=0).credit([row(episode=i, correct=i == 3) for i in range(4)])
    # Eight tokens, two of them right: class factors 4 and 4/3.
    assert [r.advantages[1] for r in rows] == pytest.approx([-2 / 3 * 4 / 3] * 3 + [2 * 4], abs=1e-12)


def test_the_worked_case() -> None:
    credited = Oreal().credit(worked())
    assert [r.correct for r in credited] == [True, False]
    right, wrong = (torch.tensor(now, dtype=torch.float64) for now in (NOW_RIGHT, NOW_WRONG))
    new = torch.stack([right, wrong]).requires_grad_()
    batch = double(credited)
    loss = Oreal().loss(Forward(logprobs=new, entropy=torch.full((2, 4), 0.5)), batch)
    total = (loss.terms * batch.weights).sum()
    assert total.item() == pytest.approx(0.3403870807276512, abs=1e-9)
    (gradient,) = torch.autograd.grad(total, new)
    assert gradient[0, 1:].tolist() == pytest.approx(
        [-0.0438968864999804, -0.12987227220070702, -0.21685554784422942], abs=1e-9
    )
    assert gradient[1, 1:].tolist() == pytest.approx([-0.0005, 0.08197288746790306, 0.0], abs=1e-9)
    # Metrics are means over the five tokens, which are the parts of the objective.
    means = {name: values[batch.weights > 0].mean().item() for name, values in loss.metrics.items()}
    assert means["loss/right"] == pytest.approx(0.25858085992641483, abs=1e-9)
    assert means["loss/wrong"] == pytest.approx(0.08163955413456972, abs=1e-9)
    assert means["kl"] == pytest.approx(0.016666666666666653, abs=1e-9)
    assert means["entropy"] == 0.5
    assert all(values.shape == (2, 4) and not values.requires_grad for values in loss.metrics.values())


@pytest.mark.parametrize("pack", [False, True])
def test_the_reward_model_of_the_worked_case(pack: bool) -> None:
    # Mean logits 3.2/3 and -.5: both on the right side. BCE (log(1 + exp(-3.2/3)) + log(1 + exp(-.5)))/2.
    credited = [row.with_columns(old_values=row.values) for row in Oreal().credit(worked())]
    batch = double(credited, pack)  # which has no column of what credit alone reads
    logits = batch.old_values.clone()
    loss = Oreal().reward_model_loss(Forward(values=logits), batch)
    expected = (log(1 + exp(-3.2 / 3)) + log(1 + exp(-0.5))) / 2
    assert expected == pytest.approx(0.38492082224305146, abs=1e-12)
    assert (loss.terms * batch.value_weights).sum().item() == pytest.approx(expected, abs=1e-9)


def test_what_is_logged_of_a_step() -> None:
    found = Oreal().metrics(Oreal().credit([*worked(), row("easy", values=[1.0] * 3)]))
    assert found == pytest.approx(
        {
            "kept/groups": 1,
            "kept/right_tokens": 3,
            "kept/wrong_tokens": 2,
            "token_weights/right": (0.0996679946249559 + 0.2913126124515908 + 0.4879249826495162) / 3,
            "token_weights/wrong": 0.2449186624037092 / 2,
            "token_weights/zero": 1 / 5,
            "reward_model/accuracy": 1.0,
        },
        abs=1e-9,
    )
    assert Oreal().metrics([]) == {"kept/groups": 0.0}
    silent = Oreal().credit([row(episode=i, correct=i == 0, values=[0.0] * 3) for i in range(2)])
    assert Oreal().metrics(silent)["token_weights/zero"] == 1.0
    assert isinstance(Oreal(), Measured)
    plain = Oreal(token_weights="none")
    assert plain.metrics(plain.credit(worked()))["token_weights/wrong"] == 1.0


def test_token_weights_of_the_cases() -> None:
    assert running_mean([0.2, 1.0, 2.0]) == pytest.approx([0.2, 0.6, 3.2 / 3], abs=1e-12)
    algorithm = Oreal(beta=0, scale_right=False, scale_wrong=False, eta=1.0)
    right, wrong = algorithm.credit([row(actions=3, **RIGHT), row(episode=1, correct=False, **WRONG)])
    shares = (5 / 3, 5 / 2)
    assert [a / shares[0] for a in right.advantages] == pytest.approx(
        [0.0, 0.0996679946249559, 0.2913126124515908, 0.4879249826495162], abs=1e-9
    )
    assert [-a / shares[1] for a in wrong.advantages] == pytest.approx([0.0, 0.0, 0.2449186624037092], abs=1e-9)
    # A quarter as threshold: (sigmoid(.2) - .25)/.75.
    (first, _) = replace(algorithm, weight_threshold=0.25).credit([right, wrong])
    assert first.advantages[1] / shares[0] == pytest.approx((1 / (1 + exp(-0.2)) - 0.25) / 0.75, abs=1e-9)


def test_weights_of_the_top_fraction() -> None:
    assert top_fraction([0.9, 0.6, 0.8, 0.55], 0.5).tolist() == [1.0, 0.0, 0.0, 0.0]  # .8 is the least of the kept
    assert top_fraction([0.9, 0.6, 0.8, 0.55], 0.75).tolist() == pytest.approx([1.0, 0.0, 2 / 3, 0.0])
    assert top_fraction([0.5, 0.5, 0.5], 1.0).tolist() == [1.0] * 3
    assert top_fraction([0.3], 0.01).tolist() == [1.0]
    logits = [0.0, 2.0, -4.0]  # of a wrong answer the last looks worst: running means 2 and -1
    rows = [row(values=logits), row(episode=1, correct=False, values=logits)]
    wrong = Oreal(token_weights="top_fraction", top_fraction=0.5, beta=0).credit(rows)[1]
    assert [bool(a) for a in wrong.advantages] == [False, False, True]


@pytest.mark.parametrize("variant", ["reference", "paper"])
def test_a_zero_head_gives_the_policy_no_signal(variant: Any) -> None:
    zero: dict[str, Any] = {"values": [0.0] * 3, "next_values": [0.0] * 3}
    credited = Oreal(variant=variant, beta=0).credit([row(**zero), row(episode=1, correct=False, **zero)])
    assert len(credited) == 2, "the reward model learns from them"
    assert not any(any(r.advantages) for r in credited)
    batch, new = double(credited), torch.full((2, 3), -1.0, dtype=torch.float64, requires_grad=True)
    loss = (Oreal(variant=variant, beta=0).loss(Forward(logprobs=new), batch).terms * batch.weights).sum()
    assert not torch.autograd.grad(loss, new)[0].any()
    logits = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    forward = Forward(values=logits, next_values=logits)
    moved = (Oreal(variant=variant).reward_model_loss(forward, batch).terms * batch.value_weights).sum()
    (gradient,) = torch.autograd.grad(moved, logits)
    assert gradient.tolist() == [[0.0, -0.125, -0.125], [0.0, 0.125, 0.125]]  # (sigmoid(0) - label)/2 answers/2 tokens
    # So the policy waits for the reward model, and the log says how many tokens weigh nothing.
    algorithm = Oreal(variant=variant)
    for step, learning in ((0, ["critic"]), (9, ["critic"]), (10, ["critic", "policy"])):
        assert [update.model for update in algorithm.updates(step)] == learning
    assert algorithm.metrics(credited)["token_weights/zero"] == 1.0


@pytest.mark.parametrize(("sees", "side"), [(False, "values"), (True, "next_values")])
def test_the_reward_model_learns_the_number_that_weighs(sees: bool, side: str) -> None:
    (credited, *_) = Oreal(weight_sees_token=sees).credit(
        [row(episode=i, correct=i == 0, values=[0.0] * 3, next_values=[0.0] * 3) for i in range(2)]
    )
    numbers = {name: torch.zeros(1, 3, requires_grad=True) for name in ("values", "next_values")}
    new = Forward(values=numbers["values"], next_values=numbers["next_values"])
    loss = Oreal(weight_sees_token=sees).reward_model_loss(new, collate([credited], pack=False))
    found = torch.autograd.grad(loss.terms.sum(), list(numbers.values()), allow_unused=True)
    assert [name for name, gradient in zip(numbers, found, strict=True) if gradient is not None] == [side]


def test_only_the_reward_model_learns_at_first() -> None:
    assert [[u.model for u in Oreal().updates(step)] for step in (0, 9, 10, 99)] == [
        ["critic"],
        ["critic"],
        ["critic", "policy"],
        ["critic", "policy"],
    ]
    assert [u.model for u in Oreal(token_weights="none").updates(0)] == ["policy"]
    assert [u.model for u in Oreal(critic_only_steps=0).updates(0)] == ["critic", "policy"]


def test_what_is_not_trained_is_not_counted() -> None:
    # Unsolved, always solved, unselected, unjudged and empty answers: none of their tokens is in a denominator.
    rows = [row("never", i, False, 50, values=[0.0] * 51) for i in range(3)]
    rows += [row("always", i, True, 50, values=[0.0] * 51) for i in range(3)]
    rows += [row(episode=i, correct=i % 2 == 0, actions=3, values=[1.0] * 4) for i in range(6)]
    rows += [row(episode=6, correct=False, reward=nan, actions=50, values=[0.0] * 51)]
    rows += [row(episode=7, correct=False, values=[0.0] * 3, action_mask=[False] * 3)]
    credited = Oreal().credit(rows)
    assert [(r.group, r.correct) for r in credited] == [("g", True), ("g", False)]
    assert [r.weights.tolist() for r in credited] == [[0.0, 1 / 6, 1 / 6, 1 / 6]] * 2
    assert [r.returns.tolist() for r in credited] == [[0.0, 2.0, 2.0, 2.0], [0.0, -2.0, -2.0, -2.0]]
    assert sum(sum(r.value_weights) for r in credited) == pytest.approx(1.0)
    everything = Oreal(selection="all").credit(rows)
    assert [r.weights[1] for r in everything] == [1 / 18] * 6


@pytest.mark.parametrize("correct", [True, False])
def test_a_step_of_one_class_teaches_nothing(correct: bool) -> None:
    rows = [row(episode=i, correct=correct, values=[1.0] * 3) for i in range(4)]
    assert Oreal().credit(rows) == []
    assert Oreal(variant="paper", selection="all").credit(rows) == []
    assert Oreal().credit([]) == []


def test_a_batch_of_one_class_has_a_finite_loss() -> None:
    for one in some(Oreal(beta=0).credit(worked())):
        batch = double([one])
        new = torch.full(batch.token_ids.shape, -1.0, dtype=torch.float64)
        assert Oreal(beta=0).loss(Forward(logprobs=new), batch).terms.isfinite().all()


def test_the_pair_is_drawn_by_the_groups_name() -> None:
    def pairs(rows: Sequence[Sample]) -> set[tuple[str, int]]:
        return {(r.group, r.episode) for r in Oreal().credit(rows)}

    rows = [row(f"g{g}", i, i < 4, values=[1.0] * 3) for g in range(8) for i in range(8)]
    torch.manual_seed(1)
    first = pairs(rows)
    torch.manual_seed(2)
    assert pairs(rows) == first == pairs(rows[::-1])
    assert pairs(rows[:8]) == {pair for pair in first if pair[0] == "g0"}, "whatever else is in the step"
    right = {i for _, i in first if i < 4}
    assert len(right) > 1, "not always the same episode"


def test_where_no_verdict_is_the_reward_decides() -> None:
    values: dict[str, Any] = {"values": [1.0] * 3, "correct": None}
    rows = [row(episode=i, reward=reward, **values) for i, reward in enumerate((1.0, -1.0, 0.2))]
    signs = [r.returns[1] > 0 for r in Oreal(selection="all").credit(rows)]
    assert signs == [True, False, True]
    signs = [r.returns[1] > 0 for r in Oreal(selection="all", right_above=0.5).credit(rows)]
    assert signs == [True, False, False]


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, {"values", "ref_logprobs"}),
        ({"beta": 0.0}, {"values"}),
        ({"variant": "paper"}, {"next_values"}),
        ({"variant": "paper", "minibatches": 2}, {"next_values", "old_logprobs"}),
        ({"variant": "paper", "kl_anchor": "initial"}, {"next_values", "ref_logprobs"}),
        ({"weight_sees_token": True, "beta": 0}, {"next_values"}),
        ({"token_weights": "none"}, {"ref_logprobs"}),
    ],
)
def test_needs(options: dict[str, Any], needs: set[str]) -> None:
    assert Oreal(**options).needs() == needs


def test_the_variants_differ_as_the_paper_and_its_code_do() -> None:
    both: dict[str, Any] = {"values": [0.0, 2.0, 4.0], "next_values": [0.0, 1.0, -5.0]}
    rows = [row(episode=0, **both), row(episode=1, correct=False, **both), row(episode=2, correct=False, **both)]
    q = [2 / (1 + exp(-x)) - 1 for x in (2.0, 3.0)]  # before the token: running means 2 and 3
    reference = Oreal(beta=0).credit(rows)
    assert reference[0].advantages == pytest.approx([0.0, 2 * 2 * q[0], 2 * 2 * q[1]])  # 1 - (-1) = 2, class factor 2
    assert reference[1].advantages.tolist() == [0.0] * 3, "it looks right, so nothing is pushed"
    after = [2 / (1 + exp(-1.0)) - 1, 2 / (1 + exp(-2.0)) - 1]  # running means 1 and -2
    paper = Oreal(variant="paper").credit(rows)
    assert paper[0].advantages == pytest.approx([0.0, 2 * after[0], 0.0])
    assert paper[1].advantages == pytest.approx([0.0, 0.0, -0.5 * 2 * after[1]])
    scaled = Oreal(variant="paper", scale_right=True).credit(rows)
    assert scaled[0].advantages == pytest.approx([0.0, 2 * after[0], 0.0])  # 1/0 rewards: 1 - 0 = 1
    grouped = Oreal(beta=0, advantage="group", selection="all").credit(rows)
    spread = (2 / 3) ** 0.5 * 2**0.5  # of 1, -1, -1: mean -1/3, squares 16/9 + 2 * 4/9 over 2
    assert grouped[0].advantages[1] == pytest.approx(4 / 3 / (spread + 1e-4) * 3 * q[0], rel=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight_threshold": 1.0}, "weight_threshold"),
        ({"top_fraction": 0}, "top_fraction"),
        ({"eta": -1}, "eta"),
        ({"critic_only_steps": -1}, "critic_only_steps"),
        ({"wrong_reward": 1}, "wrong_reward"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build("algorithm", {"name": "oreal", **options})


def test_an_algorithm_is_a_value() -> None:
    algorithm = Oreal(variant="paper")
    assert pickle.loads(pickle.dumps(algorithm)) == algorithm
    assert hash(algorithm) == hash(replace(algorithm))


def test_hard_problems_push_less_and_clone_more() -> None:
    # At pass rate p of K answers paid +-1: 1 - (2p - 1) = 2(1 - p) and -2p, times K/(K - 1).
    for solved in (2, 8, 14):
        rows = [row(episode=i, correct=i < solved) for i in range(16)]
        credited = Oreal(token_weights="none", beta=0, eta=1.0).credit(rows)
        gains = [r.advantages[1] / abs(r.returns[1]) for r in credited]
        assert gains[0] * 15 / 16 == pytest.approx(2 * (1 - solved / 16))
        assert gains[-1] * 15 / 16 == pytest.approx(-2 * solved / 16)
