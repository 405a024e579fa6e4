"""Buckets of returns and answers to rehearse, by hand."""

from __future__ import annotations

from llmrl.ops.returns import bucket_of, edges_of, rehearsed


def test_edges_lie_between_neighbours_and_belong_to_the_upper_bucket() -> None:
    """The median of 0, 1, 4 is 1, and three quarters of the way is half-way between 1 and 4."""
    edges = edges_of([4.0, 0.0, 1.0], [0.5, 0.75])
    assert edges == [1.0, 2.5]
    assert [bucket_of(value, edges) for value in (-9.0, 0.99, 1.0, 2.4, 2.5, 9.0)] == [0, 0, 1, 1, 2, 2]


def test_right_and_wrong_answers_have_two_buckets() -> None:
    """Quartiles of 0, 0, 1, 1 are 0, 0.5 and 1: bucket 1 is wrong, bucket 3 right, and the others are empty."""
    edges = edges_of([0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.75])
    assert edges == [0.0, 0.5, 1.0]
    assert [bucket_of(value, edges) for value in (0.0, 1.0)] == [1, 3]


def test_the_likeliest_right_answers_are_kept_so_many_of_a_problem() -> None:
    nll, success, problems = [0.5, 0.1, 0.2, 0.3, 0.4], [True, False, True, True, True], ["a", "a", "b", "b", "a"]
    assert rehearsed(nll, success, 9) == [2, 3, 4, 0]
    assert rehearsed(nll, success, 3, problems, 1) == [2, 4]
    assert rehearsed(nll, success, 0) == []
    assert rehearsed([1.0, 1.0], [True, True], 1) == [0]
