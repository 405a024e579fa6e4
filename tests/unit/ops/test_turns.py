"""Credit by turn: numbers by hand."""

from __future__ import annotations

from math import isnan, nan
from typing import Any

import numpy as np
import pytest

from llmrl.algorithms.grpo import GRPO
from llmrl.algorithms.ppo import PPO
from llmrl.algorithms.reinforce_pp import ReinforcePP
from llmrl.algorithms.rloo import RLOO
from llmrl.ops.gae import discounted, gae, returns
from llmrl.ops.moments import Moments, standardised
from llmrl.ops.tracks import episode_sequence
from llmrl.ops.turns import earned_by_turn, rewards_at_ends, turn_returns
from llmrl.protocols import Algorithm
from llmrl.samples import Sample
from tests.builders import sample

TURNS = [-1, 0, 0, -1, -1, 1, -1, 2, 2]
ANY: dict[str, Any] = {"kl_coef": 0.0, "whiten_advantages": False, "minibatches": 1}


def row(rewards: list[float], score: float = 0.0, episode: int = 0, **given: Any) -> Sample:
    """Three turns of two, one and two tokens, with observed tokens between them; its score besides its turns."""
    turns = given.pop("turn_ids", TURNS)
    return sample(
        token_ids=[0] * len(turns),
        turn_ids=turns,
        reward=score + sum(rewards),
        turn_rewards=rewards,
        episode=episode,
        **given,
    )


def test_a_reward_stands_on_the_last_token_of_its_turn() -> None:
    assert rewards_at_ends(np.array(TURNS), [1.0, 2.0, 4.0]).tolist() == [0, 0, 1.0, 0, 0, 2.0, 0, 0, 4.0]
    # turn 1 sampled nothing: its reward goes to the token before it; a first turn without tokens gives to the first
    assert rewards_at_ends(np.array([-1, 0, 0, -1, 2]), [1.0, 2.0, 4.0]).tolist() == [0, 0, 3.0, 0, 4.0]
    assert rewards_at_ends(np.array([-1, -1, 1]), [1.0, 2.0]).tolist() == [0, 0, 3.0]
    # a branch, whose sample lies before those of later turns
    assert rewards_at_ends(np.array([-1, 2, 2, -1, 0, 1, 3]), [1.0, 2.0, 4.0, 8.0]).tolist() == [0, 0, 4, 0, 1, 2, 8]


def test_the_score_is_of_the_last_turn_and_tokens_earn_in_theirs() -> None:
    assert earned_by_turn([row([1.0, 0.0, -1.0], score=10.0)]) == [1.0, 0.0, 9.0]
    dense = row([1.0, 0.0, -1.0], score=10.0, token_rewards=[0, 0.25, 0, 0.5, 0, 0.125, 0, 0, 0])
    assert earned_by_turn([dense]) == [1.75, 0.125, 9.0], "what stands at an observation is of the action before it"
    apart = row([1.0, 0.0, -1.0], old_logprobs=[0.5] * 9, ref_logprobs=[0.0] * 9)
    assert earned_by_turn([apart], beta=0.1) == pytest.approx([0.9, -0.05, -1.1])
    assert all(map(isnan, earned_by_turn([row([1.0, 0.0, 0.0], score=nan)])))


def test_an_episode_of_two_samples_is_one() -> None:
    first = row([1.0, 2.0, 4.0], score=8.0, turn_ids=[-1, 0, 0, -1, 1])
    second = row([1.0, 2.0, 4.0], score=8.0, turn_ids=[-1, -1, 2, 2])
    assert earned_by_turn([first, second]) == [1.0, 2.0, 12.0]
    track = episode_sequence([second, first])
    assert track.total.tolist() == [0, 0, 1.0, 0, 2.0, 0, 0, 0, 12.0]
    assert track.discounts(0.5, 0.1) == pytest.approx(np.array([0, 0.5, 0.05, 0, 0.05, 0, 0, 0.5, 0.05]))
    assert track.discounts(0.5, 1.0) == 0.5


def test_the_group_compares_turns_among_those_that_reached_them() -> None:
    """G = (0.5 * (0.5 * 3 + 0) + 1, ...): by hand with turn_discount 0.5, and one sibling that ended after a turn."""
    long, short = row([1.0, 0.0, 3.0]), row([2.0], episode=1, turn_ids=[-1, 0])
    other = row([0.0, 1.0, 1.0], episode=2)
    # G of long: 1 + 0.5 * 1.5 = 1.75, 0 + 0.5 * 3 = 1.5, 3; of other: 0.75, 1.5, 1; of short: 2
    rows = GRPO(credit_level="turn", turn_discount=0.5, scale_rewards="none").credit([long, short, other])
    assert [r.episode for r in rows] == [0, 1, 2]
    assert rows[0].advantages.tolist() == pytest.approx([0, 0.25, 0.25, 0, 0, 0, 0, 1.0, 1.0])  # means 1.5, 1.5, 2
    assert rows[1].advantages.tolist() == pytest.approx([0, 0.5])
    assert rows[2].advantages.tolist() == pytest.approx([0, -0.75, -0.75, 0, 0, 0, 0, -1.0, -1.0])
    rows = RLOO(credit_level="turn", turn_discount=0.5, beta=0.0).credit([long, short, other])
    assert rows[0].advantages[[1, 5, 7]].tolist() == pytest.approx([0.375, 0, 2.0])  # 1.75 less 1.375, 3 less 1


@pytest.mark.parametrize("algorithm", [GRPO(), RLOO(beta=0.0)])
def test_by_default_the_outcome_is_compared(algorithm: Algorithm) -> None:
    rows = algorithm.credit([row([1.0, 0.0, 0.0]), row([0.0, 0.0, 1.0], episode=1), row([0.0] * 3, episode=2)])
    for each in rows:
        assert len(set(each.advantages[each.action_mask].tolist())) == 1
    assert rows[0].advantages[1] == rows[1].advantages[1], "when it was earned does not matter"


def test_a_critic_finds_rewards_where_they_were_given() -> None:
    values = [9.0, 0.5, 0.4, 9.0, 9.0, 0.6, 9.0, 0.7, 0.2]
    (by_turn,) = PPO(lam=1.0, **ANY).credit([row([1.0, 0.0, 2.0], score=4.0, values=values)])
    assert by_turn.returns.tolist() == pytest.approx([0, 7, 7, 0, 0, 6, 0, 6, 6])
    (outcome,) = PPO(lam=1.0, credit_level="outcome", **ANY).credit([row([1.0, 0.0, 2.0], score=4.0, values=values)])
    assert outcome.returns.tolist() == pytest.approx([0, 7, 7, 0, 0, 7, 0, 7, 7])
    (discounts,) = PPO(lam=1.0, turn_discount=0.5, **ANY).credit([row([1.0, 0.0, 2.0], score=4.0, values=values)])
    assert discounts.returns.tolist() == pytest.approx([0, 2.5, 2.5, 0, 0, 3, 0, 6, 6])


def test_what_the_limit_of_turns_cut_off_goes_on_and_what_is_done_does_not() -> None:
    def aims(**facts: Any) -> list[float]:
        algorithm = PPO(lam=1.0, bootstrap_truncated=True, turn_discount=0.5, **ANY)
        given = row([0.0] * 3, values=[0.0] * 9, next_values=[0.0] * 8 + [8.0], **facts)
        return [float(aim) for aim in algorithm.credit([given])[0].returns[[1, 5, 8]]]

    assert aims(status="done") == [0.0, 0.0, 0.0]
    assert aims(status="max_turns") == [1.0, 2.0, 4.0], "behind the last turn comes another"
    assert aims(status="cut") == [1.0, 2.0, 4.0], "a limit of the environment is one"
    assert aims(status="max_tokens", truncated=True) == [2.0, 4.0, 8.0], "it goes on within the turn"


def test_without_a_critic_returns_go_by_turns_too() -> None:
    rows = [row([1.0, 0.0, 2.0]), row([0.0] * 3, episode=1)]
    by_turn = ReinforcePP(beta=0.0).credit(rows)
    apart = by_turn[0].advantages[[2, 5, 8]]
    assert apart[0] > apart[1] == apart[2]
    outcome = ReinforcePP(beta=0.0, credit_level="outcome").credit(rows)
    assert len(set(outcome[0].advantages[[2, 5, 8]].tolist())) == 1


def test_one_discount_is_that_of_all_steps() -> None:
    generator = np.random.default_rng(0)
    numbers, mask = generator.normal(size=50), generator.random(50) < 0.7
    for decay in (0.0, 0.3, 0.97, 1.0):
        each = discounted(numbers, np.full(50, decay))
        assert each == pytest.approx(discounted(numbers, decay), abs=1e-12)
        both = [gae(numbers, numbers, mask, gamma=g, lam=0.9, last=1.0) for g in (decay, np.full(50, decay))]
        assert both[0] == pytest.approx(both[1], abs=1e-12)
    steps = generator.random(50)
    running, by_hand = 0.0, []
    for x, step in zip(numbers[::-1], steps[::-1], strict=True):
        running = x + step * running
        by_hand.append(running)
    assert returns(numbers, np.ones(50, bool), gamma=steps) == pytest.approx(np.array(by_hand[::-1]))
    assert turn_returns([1.0, 2.0], 0.5) == [2.0, 2.0]


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="an outcome has no turns"):
        GRPO(turn_discount=0.9)
    with pytest.raises(ValueError, match=r"turn_discount 1\.5"):
        RLOO(credit_level="turn", turn_discount=1.5)
    with pytest.raises(ValueError, match="turn_discount -1"):
        PPO(turn_discount=-1)
    with pytest.raises(ValueError, match=r"channels: .*credit_level: outcome"):
        GRPO(credit_level="turn", channels={"a": 1.0})


def test_normalised_rewards_of_turns_are_on_the_scale_of_the_rest() -> None:
    rows, moments = standardised([row([1.0, 0.0, 3.0]), row([0.0] * 3, episode=1)], Moments())
    scale = moments.deviation
    assert rows[0].turn_rewards == pytest.approx([1 / scale, 0, 3 / scale])
    assert earned_by_turn([rows[0]]) == pytest.approx([1 / scale, 0, 3 / scale - moments.mean / scale])
