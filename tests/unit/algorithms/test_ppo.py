from __future__ import annotations

import pickle
from dataclasses import replace
from math import log, nan, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from llmrl.algorithms.ppo import PPO
from llmrl.batch import Batch, collate
from llmrl.errors import RecipeError
from llmrl.ops.heads import HEADS, Head, HLGauss, Scalar
from llmrl.plugins import build
from llmrl.protocols import Adaptive, Algorithm, Forward, Measured
from llmrl.samples import Sample
from tests.builders import changed, sample

BARE: dict[str, Any] = {"kl_coef": 0.0, "whiten_advantages": False, "lam": 1.0, "minibatches": 1}
"""Nothing but the advantages: no divergence, no whitening, no old log-probabilities."""


def row(
    group: str = "g", episode: int = 0, reward: float = 0.0, values: tuple[float, ...] = (0.0, 0.0), **columns: Any
) -> Sample:
    """One prompt token, then an action for each value, unless a mask says otherwise."""
    length = 1 + len(values)
    given: dict[str, Any] = {
        name: [9.0, *columns.pop(name)] for name in ("ref_logprobs", "next_values") if name in columns
    }
    old = columns.pop("old_logprobs", [-1.0] * len(values))
    mask = [False, *columns.pop("mask", [True] * len(values))]
    turn = columns.pop("turn", 0)
    dense = columns.pop("token_rewards", None)
    return sample(
        group=group,
        episode=episode,
        reward=reward,
        turn_rewards=[reward],
        token_ids=[0] * length,
        turn_ids=[turn if on else -1 for on in mask],
        action_mask=mask,
        sampled_logprobs=[0.0, *old],
        old_logprobs=[9.0, *old],
        values=[9.0, *values],
        token_rewards=None if dense is None else [0.0, *dense],
        **given,
        **columns,
    )


def columns(rows: list[Sample], name: str) -> list[list[float]]:
    """Of the tokens after the prompt."""
    return [getattr(r, name)[1:].tolist() for r in rows]


def close(want: Any) -> Any:
    return pytest.approx(want, abs=1e-9)


def value_loss(head: Head, outputs: Tensor) -> Forward:
    return Forward(values=head.values(outputs), value_loss=lambda targets: head.terms(outputs, targets))


def test_it_is_an_algorithm() -> None:
    algorithm = build("algorithm", {"name": "ppo", "discounts": {"kl": 1}, "lam": 1})
    assert isinstance(algorithm, Algorithm)
    assert isinstance(algorithm, Adaptive)
    assert isinstance(algorithm, Measured)
    assert pickle.loads(pickle.dumps(algorithm)) == algorithm
    assert hash(pickle.loads(pickle.dumps(algorithm))) == hash(algorithm)


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, {"values", "ref_logprobs", "old_logprobs"}),
        ({"kl_coef": 0.0}, {"values", "old_logprobs"}),
        ({"kl_coef": 0.0, "minibatches": 1}, {"values"}),
        ({"kl_coef": 0.0, "minibatches": 1, "num_ppo_epochs": 2}, {"values", "old_logprobs"}),
        ({"kl_in_reward": False, "kl_estimator": "k3", "minibatches": 1}, {"values", "ref_logprobs"}),
        (
            {"kl_in_reward": False, "kl_estimator": "k2", "minibatches": 1, "kl_target": 6.0},
            {"values", "ref_logprobs", "old_logprobs"},
        ),
        ({**BARE, "bootstrap_truncated": True}, {"values", "next_values"}),
    ],
)
def test_needs(options: dict[str, Any], needs: set[str]) -> None:
    assert PPO(**options).needs() == needs


# Credit


@pytest.mark.parametrize(
    ("lam", "gains"), [(0.0, [0.1, 0.2, 0.2]), (0.95, [0.4705, 0.39, 0.2]), (1.0, [0.5, 0.4, 0.2])]
)
def test_advantages_with_lam_and_targets_with_lam_critic(lam: float, gains: list[float]) -> None:
    (credited,) = PPO(**BARE | {"lam": lam}).credit([row(reward=1.0, values=(0.5, 0.6, 0.8))])
    assert credited.advantages == close([0.0, *gains])
    assert credited.returns == close([0.0, 1.0, 1.0, 1.0])  # lambda 1
    assert credited.weights == close([0.0, 1 / 3, 1 / 3, 1 / 3])
    (coupled,) = PPO(**BARE | {"lam": lam, "lam_critic": lam}).credit([row(reward=1.0, values=(0.5, 0.6, 0.8))])
    assert coupled.returns == close([0.0, *(g + v for g, v in zip(gains, (0.5, 0.6, 0.8), strict=True))])


MULTI_TURN = row(reward=1.0, values=(0.2, 0.3, 9.0, 9.0, 0.5, 0.6), mask=[True, True, False, False, True, True])


def test_observed_tokens_are_skipped() -> None:
    (credited,) = PPO(**BARE | {"lam": 0.95}).credit([MULTI_TURN])
    assert columns([credited], "advantages") == [close([0.7232, 0.656, 0.0, 0.0, 0.48, 0.4])]
    assert columns([credited], "returns") == [close([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_episode_in_two_rows_is_one_sequence(order: tuple[int, int]) -> None:
    # Its history was rewritten after the second action: the next state is the first of the new row. The reward is the
    # episode's and is paid once, at its end; the two rows' four tokens share the weight of the step.
    rows = [
        row(reward=1.0, values=(0.2, 0.3), turn=0, ref_logprobs=[-1.0, -1.0]),
        row(reward=1.0, values=(9.0, 0.5, 0.6), mask=[False, True, True], turn=1, ref_logprobs=[-1.0] * 3),
    ]
    credited = PPO(**BARE | {"lam": 0.95}).credit([rows[i] for i in order])
    assert columns(credited, "advantages") == [close([0.7232, 0.656]), close([0.0, 0.48, 0.4])]
    assert columns(credited, "weights") == [[0.25, 0.25], [0.0, 0.25, 0.25]]
    assert PPO(**BARE | {"kl_coef": 0.1}).metrics(credited)["objective/episodes"] == 1.0


def inferred_from_width(rows: list[Sample]) -> list[bool]:
    """The variant seen elsewhere: a row without padding has no end."""
    width = max(len(r.token_ids) for r in rows)
    return [len(r.token_ids) == width for r in rows]


def test_only_what_a_limit_cut_off_counts_as_cut_off() -> None:
    # The shorter answer was cut, with value .7 where it stopped; the longest ended by itself.
    rows = [
        row(episode=0, values=(0.4, 0.5), next_values=[0.5, 0.7], truncated=True),
        row(episode=1, reward=1.0, values=(0.4, 0.5, 0.6), next_values=[0.5, 0.6, 0.8]),
    ]
    failed = PPO(**BARE).credit(rows)
    assert columns(failed, "advantages") == [close([-0.4, -0.5]), close([0.6, 0.5, 0.4])]
    going_on = PPO(**BARE, bootstrap_truncated=True).credit(rows)
    assert columns(going_on, "advantages") == [close([0.3, 0.2]), close([0.6, 0.5, 0.4])]
    fined = PPO(**BARE, missing_eos_penalty=2.0).credit(rows)
    assert columns(fined, "returns") == [close([-2.0, -2.0]), close([1.0, 1.0, 1.0])]
    assert inferred_from_width(rows) == [False, True]  # would fine and bootstrap the wrong one
    wrong = [replace(r, truncated=cut) for r, cut in zip(rows, inferred_from_width(rows), strict=True)]
    assert columns(PPO(**BARE, missing_eos_penalty=2.0).credit(wrong), "returns") != columns(fined, "returns")


def test_the_divergence_is_paid_where_it_arises() -> None:
    # beta .1 times log(.5/.4), log(.2/.3), 0, and the score on the last action: -.02231, .04055, 1.
    old, ref = [log(0.5), log(0.2), log(0.9)], [log(0.4), log(0.3), log(0.9)]
    rows = [row(reward=1.0, values=(0.0,) * 3, old_logprobs=old, ref_logprobs=ref)]
    credited = PPO(**BARE | {"kl_coef": 0.1}).credit(rows)
    assert columns(credited, "returns") == [close([1.0182321556793954, 1.0405465108108164, 1.0])]
    in_loss = PPO(**BARE | {"kl_coef": 0.1, "kl_in_reward": False, "kl_estimator": "k3"}).credit(rows)
    assert columns(in_loss, "returns") == [[1.0, 1.0, 1.0]]


def test_dense_rewards_add_where_they_were_earned() -> None:
    # -.05 at the first action, .5 seen on the observation after the second: it belongs to the second.
    dense = row(reward=1.0, values=(0.0,) * 4, mask=[True, True, False, True], token_rewards=[-0.05, 0.0, 0.5, 0.0])
    (credited,) = PPO(**BARE).credit([dense])
    assert credited.returns == close([0.0, 1.45, 1.5, 0.0, 1.0])


def test_a_discount_for_each_channel() -> None:
    dense = row(reward=1.0, values=(0.3,) * 3, token_rewards=[-0.05, -0.05, 0.0])
    algorithm = PPO(**BARE, discounts={"reward": 1.0, "token_rewards": 0.99})
    (credited,) = algorithm.credit([dense])
    assert credited.returns == close([0.0, 0.9005, 0.95, 1.0])
    assert credited.advantages == close([0.0, 0.6005, 0.65, 0.7])
    # The divergence is not discounted unless told so; what is not named otherwise has gamma.
    old, ref = [-1.0, -1.0, -1.0], [-1.0, -1.0, -2.0]
    strayed = changed(dense, old_logprobs=[9.0, *old], ref_logprobs=[9.0, *ref])
    both = replace(algorithm, kl_coef=0.1, gamma=0.5, discounts={"token_rewards": 0.99})
    assert columns(both.credit([strayed]), "returns") == [close([0.25 - 0.0995 - 0.1, 0.5 - 0.05 - 0.1, 1.0 - 0.1])]


def test_lambda_follows_the_length_of_the_episode() -> None:
    # 100 actions: lambda .8. Values 0: the advantage of the first is .8 ** 99, of the last but one .8.
    (credited,) = PPO(**BARE, length_adaptive_lambda=0.05).credit([row(reward=1.0, values=(0.0,) * 100)])
    assert credited.advantages[-2:] == close([0.8, 1.0])
    assert credited.advantages[1] == close(0.8**99)
    assert credited.returns == close([0.0] + [1.0] * 100)


def test_whitening_is_over_all_tokens_of_the_step() -> None:
    # Advantages 1, 1 of one episode and -1, -1, -1 of another: mean -.2, variance .96.
    rows = [row(episode=0, reward=1.0), row(episode=1, reward=-1.0, values=(0.0,) * 3)]
    credited = PPO(**BARE | {"whiten_advantages": True}).credit(rows)
    assert columns(credited, "advantages") == [
        close([1.2 / sqrt(0.96 + 1e-8)] * 2),
        close([-0.8 / sqrt(0.96 + 1e-8)] * 3),
    ]
    assert columns(credited, "returns") == [[1.0, 1.0], [-1.0, -1.0, -1.0]]  # the critic's targets keep their scale


def test_whitened_rewards_keep_their_mean() -> None:
    # Rewards 0, 1 and 0, 0: mean .25, variance .1875; each less the mean, over the deviation, plus the mean.
    rows = [row(episode=0, reward=1.0), row(episode=1, reward=0.0)]
    high, low = (0.25 + (x - 0.25) / sqrt(0.1875 + 1e-8) for x in (1.0, 0.0))
    credited = PPO(**BARE, whiten_rewards=True).credit(rows)
    assert columns(credited, "returns") == [close([low + high, high]), close([2 * low, low])]


def test_what_nobody_could_judge_or_nobody_said_is_left_out() -> None:
    rows = [row(episode=0, reward=1.0), row(episode=1, reward=nan), row(episode=2, values=(0.0,), mask=[False])]
    credited = PPO(**BARE).credit(rows)
    assert [r.episode for r in credited] == [0]
    assert columns(credited, "weights") == [[0.5, 0.5]]
    assert PPO(**BARE).credit(rows[1:]) == []
    assert PPO(**BARE).metrics([]) == {}


def test_equal_rewards_that_the_critic_expected_teach_nothing() -> None:
    credited = PPO().credit([row(episode=i, reward=1.0, values=(1.0, 1.0), ref_logprobs=[-1.0, -1.0]) for i in (0, 1)])
    assert columns(credited, "advantages") == [[0.0, 0.0]] * 2
    assert len(credited) == 2  # the critic still sees them


def test_ratios_against_another_distribution_are_refused() -> None:
    rows = [replace(row(), semantics="renormalised")]
    with pytest.raises(RecipeError, match="'renormalised'"):
        PPO(**BARE).credit(rows)
    assert PPO(**BARE, importance_sampling_correction="none").credit(rows)


# The policy's loss


def tokens(old: list[float], advantages: list[float], **kept: Any) -> Batch:
    base = row(values=(0.0,) * len(old), old_logprobs=old, **kept)
    return collate([base.assign(advantages=[0.0, *advantages], weights=1 / len(old))], pack=False)


@pytest.mark.parametrize(
    ("options", "terms", "gradient"),
    [
        ({}, [-1.2, -0.5, -1.1, 1.5, 0.8, 5.0], [0, -0.5, -1.1, 1.5, 0, 5]),
        ({"epsilon_high": 0.28}, [-1.28, -0.5, -1.1, 1.5, 0.8, 5.0], [0, -0.5, -1.1, 1.5, 0, 5]),
        ({"delta": 3.0}, [-1.2, -0.5, -1.1, 1.5, 0.8, 3.0], [0, -0.5, -1.1, 1.5, 0, 0]),
    ],
)
def test_clipping_worked_by_hand(options: dict[str, Any], terms: list[float], gradient: list[float]) -> None:
    ratios, advantages = [1.5, 0.5, 1.1, 1.5, 0.5, 5.0], [1.0, 1.0, 1.0, -1.0, -1.0, -1.0]
    batch = tokens([-1.0] * 6, advantages)
    now = torch.tensor([[0.0, *(log(r) - 1.0 for r in ratios)]], requires_grad=True)
    loss = PPO(**BARE, **options).loss(Forward(logprobs=now), batch)
    assert loss.terms[0, 1:].tolist() == pytest.approx(terms, abs=1e-6)
    assert torch.autograd.grad(loss.terms.sum(), now)[0][0, 1:].tolist() == pytest.approx(gradient, abs=1e-5)
    assert loss.metrics["clip_ratio/region_mean"][0, 1:].tolist() == [1, 0, 0, 0, 1, 0]
    assert loss.metrics["policy/approxkl_avg"][0, 1:].tolist() == pytest.approx([log(r) ** 2 / 2 for r in ratios])
    assert all(not values.requires_grad for values in loss.metrics.values())


def test_the_engine_is_corrected_worked_by_hand() -> None:
    # old/sampled .96, 3 (cut to 2), 1; new/old 1.25, 1.1, 2/3.
    probabilities = {"sampled": (0.5, 0.1, 0.9), "old": (0.48, 0.3, 0.9), "new": (0.6, 0.33, 0.6)}
    column = {name: [0.0, *(log(x) for x in p)] for name, p in probabilities.items()}
    base = changed(row(values=(0.0,) * 3, old_logprobs=column["old"][1:]), sampled_logprobs=column["sampled"])
    batch = collate([base.assign(advantages=[0.0, 1.0, 1.0, -1.0], weights=1 / 3)], pack=False)
    loss = PPO(**BARE, epsilon_high=0.28).loss(Forward(logprobs=torch.tensor([column["new"]])), batch)
    assert loss.terms[0, 1:].tolist() == pytest.approx([-1.2, -2.2, 0.8], abs=1e-6)


def test_divergence_and_entropy_in_the_loss() -> None:
    # Ratio 1, advantage 0: beta .1 times k3 (.0231436, .0945349) or k2 (.0248965, .0822010), less .01 * .5.
    old, ref = [log(0.5), log(0.2)], [log(0.4), log(0.3)]
    for kind, want in (("k3", [0.023143551314, 0.094534891892]), ("k2", [0.024896522207, 0.082200976947])):
        algorithm = PPO(kl_coef=0.1, kl_in_reward=False, kl_estimator=kind, entropy_coef=0.01)  # type: ignore[arg-type]
        batch = tokens(old, [0.0, 0.0], ref_logprobs=ref)
        new = Forward(logprobs=torch.tensor([[0.0, *old]]), entropy=torch.full((1, 3), 0.5))
        loss = algorithm.loss(new, batch)
        assert loss.terms[0, 1:].tolist() == pytest.approx([0.1 * w - 0.005 for w in want], abs=1e-7)
        assert loss.metrics["kl"][0, 1:].tolist() == pytest.approx([0.023143551314, 0.094534891892], abs=1e-6)
    assert [update.entropy_grad for update in algorithm.updates(0)] == [False, True]
    assert [update.entropy_grad for update in PPO().updates(0)] == [False, False]


def test_right_answers_are_also_imitated() -> None:
    # Right: 2 + 3 tokens with -log p .693, 1.386, .223, .693, 2.303: mean 1.0596635. All advantages -.25, ratio 1.
    right = [[log(0.5), log(0.25)], [log(0.8), log(0.5), log(0.1)]]
    rows = [
        row(episode=i, reward=1.0, values=(0.0,) * len(p), old_logprobs=p, correct=True) for i, p in enumerate(right)
    ]
    rows.append(row(episode=2, values=(0.0,), old_logprobs=[-7.0], correct=False))
    algorithm = PPO(**BARE, positive_nll_coef=0.1)
    credited = [changed(r, advantages=[0.0] + [-0.25] * r.actions) for r in algorithm.credit(rows)]
    assert columns(credited, "nll_weights") == [[0.2] * 2, [0.2] * 3, [0.0]]
    for pack in (False, True):
        batch = collate(credited, pack)
        terms = algorithm.loss(Forward(logprobs=batch.old_logprobs), batch).terms
        objective = torch.where(batch.action_mask, terms * batch.weights, 0.0).sum().item()
        assert objective == pytest.approx(0.25 + 0.1 * 1.0596634733096073, abs=1e-6)
    wrong = [replace(r, correct=False) for r in rows]
    assert columns(algorithm.credit(wrong), "nll_weights") == [[0.0] * 2, [0.0] * 3, [0.0]]
    with pytest.raises(RecipeError, match="no reward judged right and wrong"):
        algorithm.credit([replace(r, correct=None) for r in rows])


# The critic's loss


def targets(old: list[float], returns: list[float]) -> Batch:
    base = row(values=tuple(old)).assign(returns=[0.0, *returns], weights=1 / len(old))
    return collate([base], pack=False)


def test_value_clipping_worked_by_hand() -> None:
    # .9 against 1 from .5: (.1)^2 without, (.7 - 1)^2 = .09 with the clip, the larger; .1: .81; .5 against .2: .09.
    batch, now = targets([0.5] * 3, [1.0, 1.0, 0.2]), torch.tensor([[[0.0], [0.9], [0.1], [0.5]]])
    loss = PPO(**BARE, cliprange_value=0.2).value_loss(value_loss(Scalar(), now), batch)
    assert (2 * loss.terms[0, 1:]).tolist() == pytest.approx([0.09, 0.81, 0.09])
    assert (loss.terms * batch.value_weights).sum().item() == pytest.approx(0.165)
    assert loss.metrics["clip_ratio"][0, 1:].tolist() == [1, 0, 0]
    plain = PPO(**BARE).value_loss(value_loss(Scalar(), now), batch)
    assert (plain.terms * batch.value_weights).sum().item() == pytest.approx(0.15166666666666667)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_the_critics_own_affair(name: str) -> None:
    head: Head = HEADS[name]()
    batch, outputs = targets([0.5] * 3, [1.0, 1.0, 0.2]), torch.randn(1, 4, head.outputs)
    loss = PPO(**BARE).value_loss(value_loss(head, outputs), batch)
    assert torch.equal(loss.terms, head.terms(outputs, batch.returns))
    if not isinstance(head, Scalar):
        with pytest.raises(RecipeError, match="cliprange_value"):
            PPO(**BARE, cliprange_value=0.2).value_loss(value_loss(head, outputs), batch)


# Over the steps


def test_only_the_critic_learns_in_the_warm_up() -> None:
    algorithm = PPO(critic_warmup=2, num_ppo_epochs=3, minibatches=5)
    learners = [[u.model for u in algorithm.updates(step)] for step in range(4)]
    assert learners == [["critic"], ["critic"], ["critic", "policy"], ["critic", "policy"]]
    assert {(u.epochs, u.minibatches) for u in algorithm.updates(3)} == {(3, 5)}


def test_the_warm_up_ends_once_the_critic_explains_enough() -> None:
    algorithm, learners = PPO(critic_warmup=50, warmup_explained_variance=0.3), []
    for step, explained in enumerate([None, None, -0.2, 0.1, 0.35, 0.4]):
        learners.append(len(algorithm.updates(step)))
        algorithm = algorithm.adapted(step, {} if explained is None else {"explained_variance": explained})
    assert learners == [1, 1, 1, 1, 1, 2]
    assert algorithm.critic_warmup == 5
    assert len(algorithm.updates(6)) == 2


def test_the_coefficient_follows_the_divergence_after_the_warm_up() -> None:
    algorithm = PPO(kl_coef=0.2, kl_target=6.0, kl_horizon=10_000, critic_warmup=1)
    seen = []
    for step, observed in enumerate((99.0, 10.0, 3.0, 6.0)):
        algorithm = algorithm.adapted(step, {"objective/kl": observed, "objective/episodes": 256.0})
        seen.append(algorithm.kl_coef)
    assert seen == close([0.2, 0.201024, 0.19999475712, 0.19999475712])
    assert PPO().adapted(0, {"objective/kl": 99.0, "objective/episodes": 256.0}) == PPO()
    assert algorithm.adapted(4, {}) == algorithm


def test_metrics_of_a_step_worked_by_hand() -> None:
    # Values .8, .6 of a right answer, .3, .1 of a wrong one: errors .2, .4, -.3, -.1 with variance .0725 of .25.
    # Summed log-ratios .2 and -.1 + .4: mean .25.
    rows = [
        row(episode=0, reward=1.0, values=(0.8, 0.6), ref_logprobs=[-1.2, -1.0]),
        row(episode=1, reward=0.0, values=(0.3, 0.1), ref_logprobs=[-0.9, -1.4]),
    ]
    algorithm = PPO(**BARE | {"whiten_advantages": True, "kl_coef": 1e-9})
    found = algorithm.metrics(algorithm.credit(rows))
    want = {"advantages/mean": 0.05, "advantages/std": sqrt(0.0725), "returns/mean": 0.5, "explained_variance": 0.71}
    want |= {"values/mean": 0.45, "values/first": 0.55, "values/middle": 0.55, "values/last": 0.35}
    want |= {"objective/kl": 0.25, "objective/episodes": 2.0, "kl_coef": 1e-9}
    assert found == pytest.approx(want, abs=1e-6)
    equal = algorithm.credit([replace(r, reward=1.0) for r in rows])
    assert "explained_variance" not in replace(algorithm, kl_coef=0.0).metrics(equal)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kl_estimator": "k3"}, "k3 in the reward"),
        ({"kl_in_reward": False}, "k1 in the loss"),
        ({"delta": 1.1}, "delta 1.1"),
        ({"lam": 1.5}, "lam 1.5"),
        ({"minibatches": 0}, "minibatches 0"),
        ({"importance_sampling_cap": 0.5}, "importance_sampling_cap"),
        ({"cliprange_value": 0.0}, "cliprange_value 0.0"),
        ({"kl_target": 6.0, "kl_coef": 0.0}, "kl_target"),
        ({"warmup_explained_variance": 0.3}, "critic_warmup above 0"),
        ({"discounts": {"reward": 0.9}}, "expected lam: 1"),
        ({"discounts": {"reward": 0.9}, "lam": 1, "length_adaptive_lambda": 0.05}, "expected lam: 1"),
        ({"discounts": {"reward": 0.9}, "lam": 1, "bootstrap_truncated": True}, "bootstrap_truncated"),
        ({"discounts": {"format": 0.9}, "lam": 1}, "unknown channel format"),
        ({"discounts": {"reward": 1.9}, "lam": 1}, "discounts.reward 1.9"),
        ({"cliprange": 0.2}, "unknown key"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("algorithm", {"name": "ppo", **options})


# Learning


def play(table: Tensor, secret: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, list[float]]:
    """48 answers of 4 tokens, 16 for each of 3 prompts; paid if at least 3 match the secret."""
    logprobs = torch.log_softmax(table.detach(), -1).repeat_interleave(16, 0)
    said = torch.multinomial(logprobs.exp().view(-1, 5), 1, generator=generator).view(48, 4)
    paid = ((said == secret.repeat_interleave(16, 0)).sum(-1) >= 3).double()
    return said, logprobs.gather(-1, said[..., None])[..., 0], paid.tolist()


def now(model: Tensor, head: Head | None, rows: list[Sample]) -> Forward:
    """What a table says of rows whose tokens are in their ids: (prompt, position, symbol) logits, or outputs."""
    which = torch.tensor([int(r.group) for r in rows])
    if head is not None:
        outputs = torch.cat([model.new_zeros(len(rows), 1, model.shape[-1]), model[which]], 1)
        return value_loss(head, outputs)
    said = torch.tensor([r.token_ids[1:].tolist() for r in rows])
    chosen = torch.log_softmax(model[which], -1).gather(-1, said[..., None])[..., 0]
    return Forward(logprobs=torch.cat([chosen.new_zeros(len(rows), 1), chosen], 1))


@pytest.mark.parametrize(
    ("options", "head", "rate"),
    [
        ({"num_ppo_epochs": 2, "lam_critic": 0.95}, Scalar(), 3.6),
        (
            {"num_ppo_epochs": 2, "length_adaptive_lambda": 1.0, "epsilon_high": 0.28, "critic_warmup": 3},
            HLGauss(),
            40.0,
        ),
        ({"num_ppo_epochs": 2, "kl_coef": 0.001, "cliprange_value": 0.5, "positive_nll_coef": 0.1}, Scalar(), 3.6),
    ],
)
@pytest.mark.parametrize("seed", [0])
def test_it_learns_a_secret(options: dict[str, Any], head: Head, rate: float, seed: int) -> None:
    """3 prompts, 4 tokens of 5 symbols, by chance 2.7 % paid; tables for policy and critic, plain gradient descent."""
    generator = torch.Generator().manual_seed(seed)
    secret = torch.randint(5, (3, 4), generator=generator)
    models = {"policy": torch.zeros(3, 4, 5), "critic": torch.zeros(3, 4, head.outputs)}
    algorithm, paid = PPO(**{"kl_coef": 0.0, "minibatches": 1} | options), []
    for step in range(60):
        said, logprobs, rewards = play(models["policy"], secret, generator)
        values = head.values(models["critic"]).repeat_interleave(16, 0)
        rows = [
            changed(
                row(str(i // 16), i % 16, rewards[i], tuple(values[i].tolist()), old_logprobs=logprobs[i].tolist()),
                token_ids=[0, *said[i].tolist()],
                ref_logprobs=[0.0] + [log(0.2)] * 4,
                correct=rewards[i] > 0,
            )
            for i in range(48)
        ]
        paid.append(sum(rewards) / 48)
        credited = algorithm.credit(rows)
        batch = collate(credited, pack=False)
        for update in algorithm.updates(step):
            critic = update.model == "critic"
            for _ in range(update.epochs):
                leaf = models[update.model].clone().requires_grad_()
                terms = update.loss(now(leaf, head if critic else None, credited), batch).terms
                weights = batch.value_weights if critic else batch.weights
                (gradient,) = torch.autograd.grad((terms * weights).sum(), leaf)
                models[update.model] -= (rate if critic else 20.0) * gradient
    assert sum(paid[:3]) / 3 < 0.3
    assert sum(paid[-5:]) / 5 > 0.95
