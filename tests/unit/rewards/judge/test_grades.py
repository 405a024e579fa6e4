"""Grades of a judge behind a real HTTP server, what they cost, and the options."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.train.metrics import rollout_metrics
from llmrl.types import Trajectory
from tests.http_server import HttpServer, Reply
from tests.unit.rewards.judge.asking import ask, group, judge, says, shown


def test_a_grade_becomes_a_value_from_0_to_1(server: HttpServer) -> None:
    grades = {"bad": 1, "good": 9}
    server.answer = lambda body: says({"reason": f"it is {shown(body)}", "grade": grades[shown(body)]})
    bad, good = ask(server, "bad", "good", prompt_price=2.0, completion_price=10.0)
    assert (bad.value, good.value) == (0.1, 0.9)
    assert (bad.verdict, bad.reason) == (None, "it is bad")
    # 100 tokens at 2 a million and 10 at 10
    spent = {"requests": 1, "prompt_tokens": 100, "completion_tokens": 10, "cached": 0, "corrupt_entries": 0}
    assert good.parts == {"grade": 9.0, **spent, "cost": pytest.approx(0.0003)}
    assert {body["model"] for body in server.asked} == {"tiny"}
    assert server.asked[0]["temperature"] == 0.0


def test_a_scale_a_verdict_and_a_rubric_of_ones_own(server: HttpServer) -> None:
    server.answer = lambda body: says({"grade": int(shown(body))})
    options = {"lowest": -2, "highest": 2, "explain": False, "correct_from": 0.75, "reference": True}
    scores = ask(server, "-2", "1", "2", rubric="Be brief.", **options)
    assert [(score.value, score.verdict) for score in scores] == [(0.0, "wrong"), (0.75, "correct"), (1.0, "correct")]
    request = server.asked[0]
    assert request["response_format"]["json_schema"]["schema"]["properties"] == {
        "grade": {"type": "integer", "enum": [-2, -1, 0, 1, 2]}
    }
    assert (shown(request, "reference"), "Be brief." in request["messages"][1]["content"]) == ("Hello!", True)


def test_the_rubric_of_a_problem(server: HttpServer) -> None:
    reward = judge(server, rubric_column="rubric")
    (score,) = asyncio.run(reward.score(group("x", rubric="Only rhymes count.")))
    assert score.value == 0.5
    assert "Only rhymes count." in server.asked[0]["messages"][1]["content"]
    (score,) = asyncio.run(reward.score(group("x", rubric=" ")))
    assert (score.value, score.verdict) == (None, "error")
    assert score.reason == "problem p: judge: no text in info['rubric'] to judge by"
    without = [replace(one, problem=replace(one.problem, answer="")) for one in group("x")]
    (score,) = asyncio.run(judge(server, reference=True).score(without))
    assert (score.verdict, score.reason) == ("error", "problem p: judge: no answer to show as the reference")


def test_equal_texts_are_asked_about_and_paid_for_once(server: HttpServer) -> None:
    scores = ask(server, "<think>a</think> same", "<think>b</think>same ", "other")
    assert [score.value for score in scores] == [0.5] * 3
    assert [score.parts["requests"] for score in scores] == [1, 0, 1]
    assert sorted(shown(body) for body in server.asked) == ["other", "same"]
    assert len(ask(server, "<think>a</think>same", "<think>b</think>same", reads="all")) == 2
    assert len(server.asked) == 4


def test_it_is_not_bound_by_the_time_of_graders(server: HttpServer) -> None:
    def slow(body: dict[str, Any]) -> Reply:
        time.sleep(0.2)  # `judge` lifts it with a pool of 1 ms
        return says({"reason": "", "grade": 10})

    server.answer = slow
    (score,) = ask(server, "x")
    assert score.value == 1.0


# Around it


def test_in_a_mix_what_it_cost_is_logged(server: HttpServer) -> None:
    mix = {"name": "mix", "parts": {"judge": {"weight": 1.0, "url": f"{server.url}/v1"}, "format": 0.0}}
    with GradingPool(workers=1, timeout_s=30.0) as pool:
        played = group("x", "y")
        scores = asyncio.run(as_group_reward(build("reward", mix), pool).score(played))
    scored = [
        Trajectory(problem=o.problem, turns=[], status="done", score=s) for o, s in zip(played, scores, strict=True)
    ]
    metrics = rollout_metrics([scored])
    assert metrics["rewards/judge/prompt_tokens/mean"] == 100.0
    assert metrics["rewards/judge/grade/mean"] == 5.0
    assert metrics["reward"] == 0.5


def test_tokens_that_the_server_does_not_count_are_unknown_and_not_0(server: HttpServer) -> None:
    server.answer = lambda body: says({"reason": "", "grade": 1}, usage={"prompt_tokens": "many"})
    (score,) = ask(server, "x", prompt_price=1.0)
    assert (score.parts["prompt_tokens"], score.parts["cost"], score.parts["requests"]) == (None, None, 1)


def test_entries_of_a_request_can_be_added_and_removed(server: HttpServer) -> None:
    ask(server, "x", extra_body={"max_tokens": None, "max_completion_tokens": 7, "seed": 1})
    assert "max_tokens" not in server.asked[0]
    assert (server.asked[0]["max_completion_tokens"], server.asked[0]["seed"]) == (7, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patience_s": 1.0, "timeout_s": 2.0}, "not even one try has its time"),
        ({"timeout_s": 0}, "timeout_s: input should be greater than 0; found 0"),
        ({"lowest": 3, "highest": 3}, "expected lowest below highest"),
        ({"form": "pairwise", "correct_from": 0.5}, "no right or wrong"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"url": "localhost:8000"}, "expected http"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build("reward", {"name": "judge", **options})
