from __future__ import annotations

from itertools import combinations
from math import inf
from random import Random
from statistics import fmean

import pytest

from llmrl.ops.scores import aggregate, best_of_n, best_of_n_accuracy, elected, first_below, running_mean, votes


def test_steps_that_are_certain_have_scores_too() -> None:
    assert aggregate([1.0, 0.0], "geomean") == 0.0
    assert aggregate([1.0, 0.0], "prod") == 0.0
    assert -inf < aggregate([0.0], "sum_logit") < -27
    assert aggregate([1.0, 0.0], "sum_logit") == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(ValueError, match="without steps"):
        aggregate([], "min")


def test_the_first_step_that_is_more_likely_wrong() -> None:
    assert first_below([0.5, 0.49, 0.1]) == 1
    assert first_below([0.5, 0.9]) is None


def test_a_running_mean() -> None:
    assert running_mean([2.0, 1.0, 0.0]).tolist() == [2.0, 1.5, 1.0]
    assert running_mean([]).tolist() == []


def test_ties_go_to_the_earliest_and_what_cannot_be_read_does_not_vote() -> None:
    assert best_of_n([0.1, 0.7, 0.7]) == 1
    assert elected(votes(["b", "a", "a", "b", None, None, None])) == "b"
    assert elected(votes([None])) is None
    assert votes(["a", "b", "a"], [0.5, 0.9, 0.2], "max") == {"a": 0.5, "b": 0.9}
    assert votes(["a"], [-3.0], "max") == {"a": -3.0}


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_without_bias_is_the_mean_over_all_subsets(n: int) -> None:
    draw = Random(n)
    scores = [draw.choice([0.1, 0.5, 0.9, draw.random()]) for _ in range(7)]  # with ties
    correct = [draw.random() < 0.5 for _ in scores]
    every = [correct[max(chosen, key=lambda i: (scores[i], -i))] for chosen in combinations(range(7), n)]
    assert best_of_n_accuracy(scores, correct, n) == pytest.approx(fmean(every), abs=1e-12)


@pytest.mark.parametrize("n", [0, 3])
def test_more_answers_than_there_are(n: int) -> None:
    with pytest.raises(ValueError, match=f"best of {n}"):
        best_of_n_accuracy([1.0, 2.0], [True, False], n)
