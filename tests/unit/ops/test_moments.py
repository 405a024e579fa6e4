from __future__ import annotations

from dataclasses import asdict, replace
from json import dumps, loads
from math import isnan, nan, sqrt
from random import Random
from statistics import fmean, stdev

import pytest

from llmrl.ops.moments import Moments, standardised
from llmrl.samples import Sample
from tests import builders
from tests.builders import changed


def row(episode: int, reward: float, group: str = "g") -> Sample:
    return builders.row(group, episode, reward, actions=1, turn_rewards=[0.0])


def test_two_steps_worked_by_hand() -> None:
    # First step 0 and 2: mean 1, deviation sqrt(2). Then 4 and 6: of 0 2 4 6 mean 3, squares 9 + 1 + 1 + 9, over 3.
    first, moments = standardised([row(0, 0.0), row(1, 2.0)], Moments())
    assert [one.reward for one in first] == pytest.approx([-1 / sqrt(2), 1 / sqrt(2)], abs=1e-15)
    assert moments == Moments(count=2, mean=1.0, squares=2.0)
    second, moments = standardised([row(0, 4.0, "h"), row(1, 6.0, "h")], moments)
    assert moments == Moments(count=4, mean=3.0, squares=20.0)
    assert [one.reward for one in second] == pytest.approx([1 / sqrt(20 / 3), 3 / sqrt(20 / 3)], abs=1e-15)


def test_equal_rewards_are_taken_to_0_and_nothing_is_divided() -> None:
    rows, moments = standardised([row(0, 0.7), row(1, 0.7)], Moments())
    assert ([one.reward for one in rows], moments.deviation) == ([0.0, 0.0], 0.0)
    (only,), moments = standardised([row(0, 5.0)], Moments())
    assert (only.reward, moments) == (0.0, Moments(count=1, mean=5.0))
    (first, _), moments = standardised([row(0, 5.0), row(1, 6.0)], moments)
    assert first.reward == pytest.approx((5 - 16 / 3) / sqrt(1 / 3)), "the first that differs gives a scale"
    assert standardised([], moments) == ([], moments)


def test_an_episode_counts_once_and_nan_never() -> None:
    whole = [row(0, 1.0), row(1, 2.0), row(2, 4.0)]
    wanted, moments = standardised(whole, Moments())
    split = [row(1, 2.0), row(0, 1.0), row(1, 2.0), row(2, 4.0), row(3, nan)]
    found, same = standardised(split, Moments())
    assert same == moments
    assert [one.reward for one in found[:4]] == [wanted[1].reward, wanted[0].reward, wanted[1].reward, wanted[2].reward]
    assert isnan(found[4].reward)


def test_what_tokens_earned_is_on_the_same_scale() -> None:
    # Episodes earned 1 + 1 and 0: mean 1, deviation sqrt(2); the mean is taken off once.
    rows = [changed(row(0, 1.0), token_rewards=[0.0, 1.0]), replace(row(1, 0.0), parts={"mine": 3.0})]
    (first, second), _ = standardised(rows, Moments())
    assert (first.reward, first.token_rewards.tolist()) == (0.0, [0.0, pytest.approx(1 / sqrt(2))])
    assert second.reward == pytest.approx(-1 / sqrt(2))
    assert second.parts == {"mine": 3.0}


def test_any_order_within_a_step_gives_the_same_bits_and_so_does_a_file() -> None:
    random = Random(0)
    rewards = [1e6 + random.gauss(0.0, 1e-3) for _ in range(300)]
    moments = Moments()
    for start in range(0, 300, 100):
        step = rewards[start : start + 100]
        shuffled = random.sample(step, len(step))
        assert moments.seen(step) == moments.seen(shuffled)
        moments = Moments(**loads(dumps(asdict(moments.seen(step)))))
    assert moments.count == 300
    assert moments.mean == pytest.approx(fmean(rewards), rel=1e-15)
    assert moments.deviation == pytest.approx(stdev(rewards), rel=1e-6), "squares of 1e6 would have drowned it"
