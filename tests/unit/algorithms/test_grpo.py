from __future__ import annotations

import pickle
from dataclasses import replace
from math import exp, isnan, nan
from typing import Any

import pytest
import torch

from llmrl.algorithms.grpo import GRPO
from llmrl.batch import collate
from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.protocols import Forward
from llmrl.rollout.samples import to_samples
from llmrl.samples import Sample
from llmrl.types import Completion, Problem, Score, Trajectory, Turn
from tests.builders import row


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, set()),
        ({"num_iterations": 2}, {"old_logprobs"}),
        ({"minibatches": 2}, {"old_logprobs"}),
        ({"beta": 0.1}, {"ref_logprobs"}),
        ({"beta": 0.1, "kl_estimator": "k1", "kl_in_reward": True}, {"ref_logprobs", "old_logprobs"}),
        ({"top_entropy_quantile": 0.2}, {"old_entropy"}),
    ],
)
def test_needs(options: dict[str, Any], needs: set[str]) -> None:
    assert GRPO(**options).needs() == needs


def test_the_three_policies_worked_by_hand() -> None:
    # Trainer/engine .96, 3 (cut to 2), 1; new/old 1.25, 1.1, 2/3; clipped -1.2/.96... = weight * max(-A r, -A clip r).
    probabilities = {"sampled": (0.5, 0.1, 0.9), "old": (0.48, 0.3, 0.9), "new": (0.6, 0.33, 0.6)}
    column = {name: torch.tensor([[0.5, *p]], dtype=torch.float64).log() for name, p in probabilities.items()}
    base = row(actions=3, sampled_logprobs=column["sampled"][0].tolist(), old_logprobs=column["old"][0].tolist())
    base = base.assign(advantages=[0.0, 1.0, 1.0, -1.0], weights=1 / 3)
    batch, new = collate([base], pack=False), column["new"].float()
    loss = GRPO(epsilon_high=0.28).loss(Forward(logprobs=new, entropy=torch.full((1, 4), 0.5)), batch)
    assert loss.terms[0, 1:].tolist() == pytest.approx([-1.2, -2.2, 0.8], abs=1e-6)
    assert (loss.terms * batch.weights).sum().item() == pytest.approx(-0.8666666666666668, abs=1e-6)
    metrics = {name: values[0, 1:].tolist() for name, values in loss.metrics.items()}
    assert metrics["clip_ratio/low_mean"] == [0, 0, 1]
    assert metrics["clip_ratio/high_mean"] == [0, 0, 0]
    assert metrics["clip_ratio/region_mean"] == [0, 0, 1]
    assert metrics["sampling/importance_sampling_ratio/mean"] == pytest.approx([0.96, 2.0, 1.0])
    assert metrics["entropy"] == [0.5] * 3
    assert all(values.shape == (1, 4) and not values.requires_grad for values in loss.metrics.values())


def test_sequence_ratios_worked_by_hand() -> None:
    # Mean log-ratio of the first (.1 - .1 + .1 + .2)/4 = .075, ratio 1.0779, clipped at 1.0004: no gradient.
    # Of the second .0005/4, ratio 1.000125, inside: each token's gradient is -ratio/4.
    old = [0.0, -1.0, -2.0, -0.5, -1.5]
    both = [
        row(episode=i, actions=4, sampled_logprobs=old, old_logprobs=old).assign(advantages=1.0, weights=1 / 4)
        for i in (0, 1)
    ]
    now = [[0.0, -0.9, -2.1, -0.4, -1.3], [0.0, -0.9999, -1.9998, -0.5001, -1.4997]]
    leaves = [torch.tensor(n, requires_grad=True) for n in now]
    algorithm = GRPO(epsilon=0.0003, epsilon_high=0.0004, importance_sampling_level="sequence")
    for pack in (False, True):
        batch, new = collate(both, pack), torch.cat(leaves)[None] if pack else torch.stack(leaves)
        terms = algorithm.loss(Forward(logprobs=new), batch).terms * batch.weights
        assert terms.sum().item() == pytest.approx(-1.0004 - 1.0001250078128254, abs=1e-6)
        clipped, inside = torch.autograd.grad(terms.sum(), leaves)
        assert clipped.tolist() == [0.0] * 5
        assert inside.tolist() == pytest.approx([0.0] + [-0.25003125195320636] * 4, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "denominator"), [({"loss_type": "dapo"}, 1 / 4), ({"loss_type": "grpo"}, 1 / 2 / 2)]
)
def test_what_is_masked_leaves_the_denominator_and_stays_in_the_baseline(
    options: dict[str, Any], denominator: float
) -> None:
    # Four episodes of two tokens, one truncated and one without a verdict: two episodes and four tokens remain.
    rows = [row(episode=0, reward=1.0), row(episode=1, reward=0.0), row(episode=2, reward=nan)]
    rows.append(row(episode=3, reward=0.5, truncated=True))
    credited = GRPO(mask_truncated_completions=True, scale_rewards=False, **options).credit(rows)
    assert [r.episode for r in credited] == [0, 1]
    assert [r.weights.tolist() for r in credited] == [[0.0, denominator, denominator]] * 2
    assert [r.advantages.tolist() for r in credited] == [[0.0, 0.5, 0.5], [0.0, -0.5, -0.5]]
    assert not any(isnan(x) for r in GRPO(beta=0.1, **options).credit(rows) for x in r.advantages)


def test_divergence_in_the_reward_worked_by_hand() -> None:
    # Summed log(old/ref) of the first is log(.5/.4) + log(.2/.3), of the second 0; rewards 1 and 0; no scaling.
    old = [0.0, -0.6931471805599453, -1.6094379124341003]
    ref = [0.0, -0.916290731874155, -1.2039728043259361]
    rows = [
        row(episode=0, reward=1.0, old_logprobs=old, ref_logprobs=ref),
        row(episode=1, reward=0.0, old_logprobs=old, ref_logprobs=old),
    ]
    algorithm = GRPO(beta=0.1, kl_estimator="k1", kl_in_reward=True, scale_rewards="none")
    gain = (1.0 - 0.1 * (0.2231435513142097 - 0.40546510810816416)) / 2
    assert [r.advantages[1] for r in algorithm.credit(rows)] == pytest.approx([gain, -gain], abs=1e-6)


def test_only_the_most_uncertain_tokens_teach_worked_by_hand() -> None:
    # Of .9 .1 .8 .2 the upper half: one token of each answer. All four stay in the denominator and in the divergence.
    rows = [
        row(episode=0, reward=1.0, old_entropy=[5.0, 0.9, 0.1], ref_logprobs=[0.0, -1.0, -2.0]),
        row(episode=1, reward=0.0, old_entropy=[5.0, 0.2, 0.8], ref_logprobs=[0.0, -1.0, -2.0]),
    ]
    algorithm = GRPO(scale_rewards="none", top_entropy_quantile=0.5, beta=0.1)
    credited = algorithm.credit(rows)
    assert [r.advantages.tolist() for r in credited] == [[0.0, 0.5, 0.0], [0.0, 0.0, -0.5]]
    assert [r.weights.tolist() for r in credited] == [[0.0, 0.25, 0.25]] * 2
    new = torch.tensor([[0.0, -1.0, -1.0]] * 2, requires_grad=True)
    batch = collate(credited, pack=False)
    (slope,) = torch.autograd.grad((algorithm.loss(Forward(logprobs=new), batch).terms * batch.weights).sum(), new)
    kl = 0.1 * (1 - exp(-1.0))  # of k3 where the policy is e times as sure as the reference
    assert slope[:, 1:].flatten().tolist() == pytest.approx([-0.5 / 4, kl / 4, 0.0, (0.5 + kl) / 4])


def test_a_row_without_an_uncertain_token_costs_nothing() -> None:
    rows = [row(episode=i, reward=float(i), old_entropy=[0.0, 0.1 + i, 0.2 + i]) for i in (0, 1)]
    (only,) = GRPO(scale_rewards="none", top_entropy_quantile=0.5).credit(rows)
    assert (only.episode, only.weights.tolist()) == (1, [0.0, 0.25, 0.25])
    unjudged = [*rows, row(episode=2, reward=nan, old_entropy=[0.0, 7.0, 7.0])]
    assert GRPO(scale_rewards="none", top_entropy_quantile=0.5).credit(unjudged) == [only]


def played(episode: int, parts: dict[str, float | None]) -> list[Sample]:
    """The rows of an answer as a rollout makes them."""
    said = Completion(token_ids=[5], logprobs=[-1.0], finish="stop", version=0)
    turn = Turn(prompt_ids=[3], completion=said, text="5")
    problem, score = Problem(id="p", messages=[]), Score(0.8, "correct", parts=parts)
    return to_samples(Trajectory(problem=problem, turns=[turn], status="done", score=score, group="g", episode=episode))


def test_a_channel_is_a_part_of_the_reward_and_one_that_abstains_leaves_it_to_the_others() -> None:
    both = played(0, {"correct": 1.0, "explore": 0.3}) + played(1, {"correct": 0.0, "explore": 0.5})
    algorithm = GRPO(channels={"correct": 0.8, "explore": 0.2}, scale_rewards="none")
    assert [r.advantages[1] for r in algorithm.credit(both)] == pytest.approx([0.38, -0.38])
    assert GRPO(scale_rewards="none").credit(both) == [], "the reward itself is the same"
    holed = played(0, {"correct": 1.0, "explore": 0.3}) + played(1, {"correct": 0.0, "explore": None})
    assert [r.advantages[1] for r in algorithm.credit(holed)] == pytest.approx([0.4, -0.4])
    missing = played(0, {"correct": 1.0}) + played(1, {"correct": 0.0})
    with pytest.raises(RecipeError, match="no part 'explore'"):
        algorithm.credit(missing)


def test_ratios_against_another_distribution_are_refused() -> None:
    rows = [replace(row(episode=i, reward=float(i)), semantics="renormalised") for i in (0, 1)]
    with pytest.raises(RecipeError, match="'renormalised'"):
        GRPO().credit(rows)
    assert len(GRPO(importance_sampling_correction="none").credit(rows)) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": 0.1, "kl_estimator": "k1"}, "k1 in the loss"),
        ({"beta": 0.1, "kl_in_reward": True}, "k3 in the reward"),
        ({"loss_type": "dr_grpo", "max_completion_length": 0}, "max_completion_length 0: expected at least 1"),
        ({"delta": 1.1}, "delta 1.1"),
        ({"importance_sampling_cap": 0.5}, "importance_sampling_cap"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"minibatches": 0}, "minibatches"),
        ({"channels": {}}, "channels {}: expected parts"),
        ({"channels": {"correct": 0.0}}, "weights other than 0"),
        ({"channels": {"a": 1.0}, "beta": 0.1, "kl_in_reward": True, "kl_estimator": "k1"}, "no part of the reward"),
        ({"top_entropy_quantile": 1.1}, "top_entropy_quantile 1.1: expected from 0 to 1"),
        ({"top_entropy_quantile": float("nan")}, "top_entropy_quantile: expected a finite number, found nan"),
        ({"top_entropy_quantile": 0.2, "importance_sampling_level": "sequence"}, "token or sequence_token"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("algorithm", {"name": "grpo", **options})


def test_the_constant_divisor_is_the_limit_of_the_rollout() -> None:
    assert GRPO(loss_type="dr_grpo").fitted(64).max_completion_length == 64
    assert GRPO(loss_average="constant").fitted(64).max_completion_length == 64
    assert GRPO().fitted(64) == GRPO(), "an average over tokens needs none"
    with pytest.raises(ValueError, match=r"max_completion_length 32, but rollout\.max_completion_length is 64"):
        GRPO(max_completion_length=32).fitted(64)
    with pytest.raises(ValueError, match="average over a constant: length None"):
        GRPO(loss_type="dr_grpo").credit([row(episode=i, reward=float(i)) for i in range(2)])


def test_an_algorithm_is_a_value() -> None:
    algorithm = GRPO(epsilon_high=0.28)
    assert pickle.loads(pickle.dumps(algorithm)) == algorithm
    assert hash(algorithm) == hash(replace(algorithm))
    update = algorithm.updates(0)[0]
    assert (update.model, update.epochs, update.minibatches) == ("policy", 1, 1)


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({"loss_type": "grpo"}, 30.0),
        ({"loss_type": "dapo", "epsilon_high": 0.28}, 30.0),
        ({"loss_type": "dr_grpo", "max_completion_length": 4, "scale_rewards": "none"}, 90.0),
        ({"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}, 30.0),
    ],
)
def test_a_table_learns_a_secret(options: dict[str, Any], rate: float) -> None:
    """3 prompts, 4 tokens of 5 symbols; paid if at least 3 match (by chance 2.7%). Plain gradient descent."""
    generator = torch.Generator().manual_seed(0)
    secret = torch.randint(5, (3, 4), generator=generator)
    table = torch.zeros(3, 4, 5, requires_grad=True)
    algorithm, paid = GRPO(**options), []
    for _ in range(60):
        logprobs = torch.log_softmax(table, -1)
        tokens = torch.multinomial(logprobs.detach().exp().repeat_interleave(16, 0).view(-1, 5), 1, generator=generator)
        tokens = tokens.view(48, 4)
        rewards = ((tokens == secret.repeat_interleave(16, 0)).sum(-1) >= 3).double()
        chosen = logprobs.repeat_interleave(16, 0).gather(-1, tokens[..., None])[..., 0]
        rows = [
            row(str(i // 16), i % 16, float(rewards[i]), 4, sampled_logprobs=[0.0, *chosen[i].tolist()])
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
