from __future__ import annotations

from random import Random

import pytest

from llmrl.ops.snapshots import bucket_of, draw, probabilities, quantile_edges

VALUES = [0.05, 0.9, 0.5, 0.52, 0.1, 0.95, 0.48, 0.02]


def test_terciles_of_eight_values() -> None:
    # sorted: .02 .05 .1 .48 .5 .52 .9 .95; edges at places 7/3 and 14/3: .1 + .38 / 3 and .5 + .02 * 2 / 3
    assert quantile_edges(VALUES, 3) == pytest.approx([0.1 + 0.38 / 3, 0.5 + 0.04 / 3], abs=1e-12)
    assert bucket_of(VALUES, 3) == [0, 2, 1, 2, 0, 2, 1, 0]
    assert probabilities(VALUES, 3) == pytest.approx([1 / 9, 1 / 9, 1 / 6, 1 / 9, 1 / 9, 1 / 9, 1 / 6, 1 / 9])


def test_equal_values_are_one_bucket_and_alike() -> None:
    assert probabilities([0.5] * 4, 3) == [0.25] * 4
    assert probabilities([0.3], 3) == [1.0]
    assert quantile_edges([0.3], 3) == [0.3, 0.3]


def test_a_bucket_without_values_has_no_share() -> None:
    values = [0.0] * 8 + [1.0]
    found = probabilities(values, 3)
    assert sum(found) == pytest.approx(1.0)
    assert found[8] == 0.5, "one state against eight that are alike"


def test_draws_are_as_likely_as_they_should_be() -> None:
    random, counts = Random(0), [0] * len(VALUES)
    for _ in range(9000):
        counts[draw(VALUES, 3, random)] += 1
    assert [count / 9000 for count in counts] == pytest.approx(probabilities(VALUES, 3), abs=0.015)
