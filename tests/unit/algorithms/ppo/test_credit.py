from __future__ import annotations

from dataclasses import replace
from math import log, nan, sqrt

import pytest

from llmrl.algorithms.ppo import PPO
from llmrl.errors import RecipeError
from llmrl.samples import Sample
from tests.builders import changed
from tests.unit.algorithms.ppo.rows import BARE, close, columns, row


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
