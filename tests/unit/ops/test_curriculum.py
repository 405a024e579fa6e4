"""Rules of curricula, by numbers that were worked by hand."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from llmrl.ops.curriculum import (
    bin_probabilities,
    cooled,
    draw,
    effective,
    learning_progress,
    mixed,
    quantal_response,
    smoothed,
    transfer_gain,
)


def test_a_share_is_uniform_and_the_rest_goes_by_weight() -> None:
    """0.2 / 4 + 0.8 * (0, 1, 3, 0) / 4."""
    assert mixed(np.array([0.0, 1.0, 3.0, 0.0]), 0.2).tolist() == pytest.approx([0.05, 0.25, 0.65, 0.05])
    assert mixed(np.zeros(4), 0.2).tolist() == [0.25] * 4


def test_no_bin_is_given_up() -> None:
    """Progress 0 counts 0.001: 0.1 + 0.8 * 0.001 / 0.5 of two bins, the other with 0.499."""
    assert bin_probabilities(np.array([0.0, 0.499]), 0.2)[0] == pytest.approx(0.1 + 0.8 * 0.001 / 0.5)


def test_of_equally_near_tasks_the_newest_counts() -> None:
    tasks, rewards = np.array([[0.5], [0.1], [0.5], [0.9]]), np.array([0.0, 0.3, 0.25, 1.0])
    assert learning_progress(tasks, rewards, np.array([0.5]), 0.75) == (2, 0.5)


def test_a_value_counts_half_after_its_half_life() -> None:
    mean = smoothed(0.0, 1.0, 3.0)
    assert smoothed(smoothed(smoothed(mean, 0.0, 3.0), 0.0, 3.0), 0.0, 3.0) == pytest.approx(mean / 2)


def test_training_on_a_task_gains_where_it_carries() -> None:
    """Task 0 reaches 1.0, and loses 0.5 per unit: 1.0 - 0.4 there, 0.5 - 0.2 next to it, 0 where best is better."""
    distances = np.abs(np.arange(3.0)[:, None] - np.arange(3.0)[None])
    mean, deviation, best = np.array([[0.9, 0.0, 0.0], [0.1, 0.0, 0.0], [0.4, 0.2, 0.3]])
    gains = transfer_gain(mean, deviation, 1.0, 0.5, distances, best)
    assert gains.tolist() == pytest.approx([(0.6 + 0.3) / 3, 0.0, 0.0])


def test_an_adversary_plays_its_quantal_response() -> None:
    """Payoffs 1 and 0 at temperature 0.5: odds e^2 to 1; nearly random when hot, certain when cold, never infinite."""
    assert quantal_response(np.array([1.0, 0.0]), 0.5)[0] == pytest.approx(exp(2) / (1 + exp(2)))
    assert quantal_response(np.array([1.0, 0.0]), 1e6)[0] == pytest.approx(0.5)
    assert quantal_response(np.array([0.0, -1e4]), 1e-3).tolist() == [1.0, 0.0]


def test_no_other_mixture_has_more_payoff_and_entropy() -> None:
    """It is the optimum of `p . payoff + T * entropy(p)`, whose value is T log sum exp(payoff / T)."""
    payoffs, temperature, generator = np.array([0.9, 0.2, 0.5]), 0.3, np.random.default_rng(0)

    def value(p: np.ndarray) -> float:
        return float(p @ payoffs - temperature * (p * np.log(p)).sum())

    best = value(quantal_response(payoffs, temperature))
    assert best == pytest.approx(temperature * log(np.exp(payoffs / temperature).sum()))
    assert all(value(generator.dirichlet([1, 1, 1])) < best for _ in range(200))


def test_a_temperature_falls_to_its_floor_and_stays() -> None:
    rule = {"threshold": 0.6, "decay": 0.5, "floor": 0.1}
    assert [cooled(0.15, success, **rule) for success in (0.59, 0.6)] == [0.15, 0.1]


def test_a_draw_takes_each_once_and_begins_again_when_all_are_taken() -> None:
    generator = np.random.default_rng(0)
    drawn = draw(np.array([0.5, 0.0, 0.25, 0.25]), 7, generator)
    assert sorted(drawn[:3]) == sorted(drawn[3:6]) == [0, 2, 3]
    assert drawn[6] in (0, 2, 3)


def test_single_draws_have_the_frequencies_that_were_asked_for() -> None:
    generator, shares = np.random.default_rng(1), np.array([0.6, 0.3, 0.1])
    counts = np.bincount([draw(shares, 1, generator)[0] for _ in range(20000)]) / 20000
    assert np.abs(counts - shares).max() < 0.012  # four standard errors


def test_as_varied_as_so_many_equal_problems() -> None:
    assert effective([0.25] * 4) == pytest.approx(4)
    assert effective([1.0, 0.0]) == 1.0
