from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from llmrl.ops.salmon import combined, dominant, how_many, inclusion, length_bonus, shaped, variances


def test_orders_that_disagree_count_nothing_and_a_negated_principle_turns_the_score() -> None:
    assert combined((1.0, 3.0), 4.0) == 0.5
    assert combined((1.0, 3.0), 4.0, negated=True) == -0.5
    assert combined((-1.0, -3.0), 4.0) == -0.5
    assert combined((1.0, -3.0), 4.0) == 0.0
    assert combined((0.0, 3.0), 4.0) == 0.0
    assert combined((1.0, 1.0), 0.0) == 0.0


def test_variances_are_over_both_orders_of_every_pair() -> None:
    assert variances([{"a": (1.0, 3.0), "b": (0.0, 0.0)}, {"a": (5.0, 7.0), "b": (0.0, 4.0)}]) == {"a": 5.0, "b": 3.0}


def test_the_largest_score_decides_either_way() -> None:
    assert dominant({"a": 0.5, "b": -0.9}) == "b"
    assert dominant({"a": 0.5, "b": -0.5}) == "a"
    assert dominant({"a": 0.0}) is None
    assert dominant({}) is None


def test_how_many_is_geometric_and_bounded() -> None:
    random = Random(0)
    seen = Counter(how_many(random, 3) for _ in range(4000))
    weights = [0.2, 0.16, 0.128]
    for count, weight in zip((1, 2, 3), weights, strict=True):
        assert seen[count] / 4000 == pytest.approx(weight / sum(weights), abs=0.03)
    assert set(seen) == {1, 2, 3}


def test_the_bonus_stops_to_grow() -> None:
    assert length_bonus(512, 1.0) == 0.5
    assert length_bonus(5000, 1.0) == 0.8
    assert length_bonus(2048, -0.4) == -0.8


def test_the_parts_of_a_reward() -> None:
    assert shaped(1.0, 512, True, 1.0) == {"rm": 1.0, "length_bonus": 2.5, "stop": 0.0}
    assert shaped(1.0, 512, False, 0.0, no_stop=-2.0) == {"rm": 1.0, "length_bonus": 0.0, "stop": -2.0}


def test_inclusion_sums_to_k_and_skips_what_weighs_nothing() -> None:
    assert sum(inclusion([3.0, 2.0, 1.0, 0.5], 3)) == pytest.approx(3.0)
    assert inclusion([1.0, 0.0, 1.0], 2) == [1.0, 0.0, 1.0]
