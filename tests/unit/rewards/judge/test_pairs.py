"""Answers compared by pairs, by a judge behind a real HTTP server."""

from __future__ import annotations

from typing import Any

from tests.http_server import HttpServer, Reply
from tests.unit.rewards.judge.asking import ask, error, says, shown


def by_length(body: dict[str, Any]) -> Reply:
    """The longer answer is better."""
    first, second = len(shown(body, "answer A")), len(shown(body, "answer B"))
    better = "tie" if first == second else "A" if first > second else "B"
    return says({"reason": "", "better": better})


def test_a_share_of_wins_by_hand(server: HttpServer) -> None:
    server.answer = by_length
    scores = ask(server, "a", "bb", "cc", "ddd", form="pairwise")
    # a loses 3; bb wins 1, ties 1, loses 1; cc the same; ddd wins 3
    assert [score.value for score in scores] == [0.0, 0.5, 0.5, 1.0]
    assert [score.parts["ties"] for score in scores] == [0, 1 / 3, 1 / 3, 0]
    assert scores[1].reason == "1 won, 1 tied, 1 lost"
    assert len(server.asked) == 12  # six pairs, both orders
    assert sum(score.parts["requests"] or 0 for score in scores) == 12
    assert {(shown(body, "answer A"), shown(body, "answer B")) for body in server.asked} >= {("a", "bb"), ("bb", "a")}


def test_a_judge_that_loves_the_first_place_decides_nothing(server: HttpServer) -> None:
    server.answer = lambda body: says({"reason": "", "better": "A"})
    scores = ask(server, "a", "bb", "ccc", form="pairwise")
    assert [score.value for score in scores] == [0.5] * 3
    assert [score.parts["disagreements"] for score in scores] == [1.0] * 3


def test_equal_answers_tie_unasked(server: HttpServer) -> None:
    server.answer = by_length
    scores = ask(server, "a", "a", "bb", form="pairwise")
    assert [score.value for score in scores] == [0.25, 0.25, 1.0]  # a: half a win and a loss
    assert len(server.asked) == 2


def test_a_comparison_that_failed_takes_both_and_no_others(server: HttpServer) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        pair = {shown(body, "answer A"), shown(body, "answer B")}
        return (500, b"", {}) if pair == {"a", "bb"} else by_length(body)

    server.answer = answer
    one, two, three = ask(server, "a", "bb", "ccc", form="pairwise", retries=0)
    assert "1 of 2 comparisons not judged; " in error(one)
    error(two)
    assert three.value == 1.0


def test_an_answer_alone_cannot_be_compared(server: HttpServer) -> None:
    (score,) = ask(server, "a", form="pairwise")
    assert "raise rollout.num_generations" in error(score)
