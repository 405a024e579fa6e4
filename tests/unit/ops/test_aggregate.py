"""Runs as numbers, against values worked by hand."""

from __future__ import annotations

from random import Random

import pytest

from llmrl.ops.aggregate import (
    interquartile_mean,
    interval,
    mean,
    optimality_gap,
    percentile,
    probability_of_improvement,
    profile,
)

SCORES = [[0.2, 0.5, 0.9], [0.3, 0.4, 0.8], [0.1, 0.6, 0.95], [0.6, 0.5, 0.7]]
OTHER = [[0.25, 0.3, 0.8], [0.2, 0.45, 0.85], [0.15, 0.4, 0.9], [0.3, 0.5, 0.6]]


def test_the_worked_case() -> None:
    assert mean(SCORES) == pytest.approx(6.55 / 12)
    # sorted: .1 .2 .3 | .4 .5 .5 .6 .6 .7 | .8 .9 .95, so the middle six sum to 3.3
    assert interquartile_mean(SCORES) == pytest.approx(0.55)
    assert optimality_gap(SCORES) == pytest.approx(1 - 6.55 / 12)
    assert profile(SCORES, [0.25, 0.5, 0.75]) == pytest.approx([10 / 12, 6 / 12, 3 / 12])
    # wins of 16 pairs by task, draws counting half: 9, 12.5 and 10; together 31.5 of 48
    assert probability_of_improvement(SCORES, OTHER) == pytest.approx(0.65625)


def test_what_beats_it_is_never_improved_upon() -> None:
    better = [[score + 1 for score in run] for run in SCORES]
    assert probability_of_improvement(better, SCORES) == 1.0
    assert probability_of_improvement(SCORES, better) == 0.0
    assert probability_of_improvement(SCORES, SCORES) == 0.5


def test_one_failed_run_of_many_moves_the_mean_only() -> None:
    runs = [[0.8 + 0.01 * i] for i in range(8)]
    failed = [[0.0], *runs[1:]]
    assert interquartile_mean(failed) == pytest.approx(interquartile_mean(runs))
    assert mean(failed) < mean(runs) - 0.05


def test_resampled_runs_stay_in_their_task() -> None:
    """Were runs drawn across tasks, the second task's 1.0 could vanish and the minimum would fall."""
    low, high = interval([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], mean)
    assert (low, high) == (0.5, 0.5)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = Random(5)
    hits = 0
    for trial in range(200):
        low, high = interval([[random.gauss(0.5, 0.1)] for _ in range(10)], mean, repeats=200, seed=trial)
        hits += low <= 0.5 <= high
    assert 165 <= hits <= 198  # a percentile bootstrap of ten is somewhat too narrow


def test_percentiles_are_interpolated() -> None:
    # the three replicates of the worked case, sorted
    assert percentile([0.4666666666666666, 0.5666666666666668, 0.5666666666666668], 0.025) == pytest.approx(
        0.4716666667
    )
