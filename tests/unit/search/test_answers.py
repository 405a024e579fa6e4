"""Strategies over whole answers: best of n, majority, weighted majority."""

from __future__ import annotations

from typing import Any

import pytest

from llmrl.errors import RecipeError, RewardError
from llmrl.evaluation.statistics import majority
from llmrl.reasoning.searcher import parse_search
from tests.unit.search.worlds import PROBLEM, engine, search

TEXTS = ["A so 1", "B so 2", "A so 1!", "C so 3", "B so 2.", "B is 2"]
SCORES = dict(zip(TEXTS, [0.9, 0.4, 0.7, 0.95, 0.3, 0.35], strict=True))  # the case answer_vote of the specification


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        ({"name": "best_of_n", "n": 6}, "C so 3"),
        ({"name": "best_of_n", "n": 1}, "A so 1"),
        ({"name": "majority", "n": 6}, "B so 2"),
        ({"name": "majority", "n": 4}, "A so 1"),
        ({"name": "weighted_majority", "n": 6}, "A so 1"),  # 1: 0.9 + 0.7, 2: 0.4 + 0.3 + 0.35, 3: 0.95
        ({"name": "weighted_majority", "n": 6, "how": "max"}, "C so 3"),
    ],
)
def test_the_choice_is_that_of_the_case(spec: dict[str, Any], chosen: str) -> None:
    found = search(spec, TEXTS, SCORES.get)
    assert found.trajectory.text == chosen
    assert found.trajectory.problem == PROBLEM, "the chosen episode has its own problem again"
    assert len(list(found.tree.leaves())) == spec["n"]


def test_a_vote_is_that_of_an_evaluation() -> None:
    """The elected answer is right exactly where maj@k counts it as right."""
    for texts in (["1", "2", "2"], ["2", "1"], ["none", "1", "2", "2"], ["none", "no"]):
        found = search({"name": "majority", "n": len(texts)}, texts)
        finals = [text if text.isdigit() else None for text in texts]
        assert (found.trajectory.text == "2") == majority(finals, [text == "2" for text in texts])


def test_the_first_answer_is_the_one_without_a_search() -> None:
    asked = engine(TEXTS)
    search({"name": "best_of_n", "n": 3}, asked, SCORES.get, seed=11)
    seeds = [sampling.seed for _, sampling in asked.calls]
    assert seeds[0] == 11
    assert len(set(seeds)) == 3


def test_tokens_of_all_answers_are_counted_and_the_chosen_ones_kept() -> None:
    found = search({"name": "best_of_n", "n": 3}, ["ab", "abcd", "a"], len)
    assert found.tokens == 3 + 5 + 2  # each with its end
    completion = found.trajectory.turns[0].completion
    assert len(completion.token_ids) == len(completion.logprobs) == 5
    assert completion.finish == "stop"


@pytest.mark.parametrize(("budget", "lengths"), [(12, [4, 4, 4]), (14, [4, 4, 4]), (2, [1, 1]), (0, [])])
def test_a_budget_is_divided_and_never_passed(budget: int, lengths: list[int]) -> None:
    found = search({"name": "best_of_n", "n": 3}, ["abcdefgh"], len, budget=budget)
    assert [len(node.completion.token_ids) for node in found.tree.nodes[1:]] == lengths
    assert found.tokens == sum(lengths) <= budget
    assert found.trajectory.truncated


def test_a_judge_is_needed_by_those_that_compare() -> None:
    with pytest.raises(RecipeError, match="best_of_n: compares answers by a judge"):
        search("best_of_n", TEXTS)
    assert search("majority", TEXTS).trajectory.text == "B so 2"


def test_an_answer_without_a_value_is_not_chosen() -> None:
    values = {"a": None, "b": -5.0}
    assert search({"name": "best_of_n", "n": 2}, ["a", "b"], values.get).trajectory.text == "b"
    assert search({"name": "weighted_majority", "n": 3}, ["1", "1", "2"], {"2": 0.1}.get).trajectory.text == "2"
    with pytest.raises(RewardError, match="none of the first 8 answers a value"):
        search("best_of_n", ["a"], values.get)


def test_strategies_are_named_as_on_the_command_line() -> None:
    assert parse_search("best_of_n:8") == {"name": "best_of_n", "n": 8}
    assert parse_search("majority") == {"name": "majority"}
    assert parse_search("{name: best_of_n, n: 2}") == {"name": "best_of_n", "n": 2}
    assert parse_search("llmrl.search.best_of_n:BestOfN:4") == {"name": "llmrl.search.best_of_n:BestOfN", "n": 4}
    assert parse_search("llmrl.search.best_of_n:BestOfN") == {"name": "llmrl.search.best_of_n:BestOfN"}
