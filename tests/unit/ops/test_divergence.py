"""Two graders of the same episodes: how far they agree, and when they part."""

from __future__ import annotations

from random import Random

import pytest

from llmrl.ops.divergence import ALARM, GradedTwice, agreement, compared, divergence, halves, rise


def test_verdicts_are_compared_where_both_have_them() -> None:
    pairs = [
        GradedTwice(1, 1, True, True),
        GradedTwice(1, 0, True, False),
        GradedTwice(0, 0, False, False),
        GradedTwice(5, 0, False, False),
    ]
    assert agreement(pairs) == 0.75


def test_orders_are_compared_where_one_has_none() -> None:
    # The truth tells 1 from each of the two 0s: the proxy orders the first pair alike, and finds the second equal.
    assert agreement([GradedTwice(3.0, 1.0), GradedTwice(2.0, 0.0), GradedTwice(3.0, 0.0)]) == 0.75
    assert agreement([GradedTwice(1.0, 0.0), GradedTwice(2.0, 0.0)]) is None, "the truth tells nothing apart"
    assert agreement([]) is None


def test_a_step_worked_by_hand() -> None:
    found = compared([GradedTwice(1.0, 0.0), GradedTwice(2.0, 1.0), GradedTwice(3.0, 0.5)])
    # Deviations -1 0 1 and -1/2 1/2 0: their products sum to 1/2, over the root of 2 * 1/2.
    assert found == {
        "audit/proxy_mean": 2.0,
        "audit/true_mean": 0.5,
        "audit/agreement": pytest.approx(2 / 3),
        "audit/correlation": pytest.approx(0.5),
    }
    assert "audit/correlation" not in compared([GradedTwice(1.0, 0.0), GradedTwice(1.0, 1.0)])
    assert compared([]) == {}


def test_halves_and_rises_worked_by_hand() -> None:
    assert halves([1, 2, 3, 4, 5]) == ([1, 2], [4, 5])
    # Halves 0 2 and 4 6: means 1 and 5, each variance 2; 4 over the root of (2 + 2) / 2.
    assert rise([0, 2, 4, 6]) == pytest.approx(4 / 2**0.5)
    assert rise([6, 4, 2, 0]) == pytest.approx(-4 / 2**0.5)
    assert (rise([1, 1, 1, 1]), rise([0, 0, 1, 1]), rise([1, 1, 0, 0])) == (0.0, 99.0, -99.0)


def test_only_a_proxy_that_rises_over_a_truth_that_falls_diverges() -> None:
    up, down, flat = [0.0, 0.1, 0.9, 1.0], [1.0, 0.9, 0.1, 0.0], [0.5] * 4
    assert divergence(up, down) > ALARM
    for proxy, truth in ((up, up), (down, down), (down, up), (up, flat), (flat, down)):
        assert divergence(proxy, truth) <= 0


def test_noise_alone_seldom_alarms() -> None:
    random = Random(0)
    draws = [[[random.gauss(0, 1) for _ in range(20)] for _ in range(2)] for _ in range(5000)]
    assert sum(divergence(*draw) >= ALARM for draw in draws) <= 10  # 1 of 500; by chance alone 0.03 ** 2 of them: 4
