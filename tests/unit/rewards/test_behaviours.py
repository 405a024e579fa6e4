"""Counts of behaviours by wording, and by a judge behind a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import RewardError
from llmrl.plugins import build
from llmrl.rewards.behaviour_judge import QUESTIONS, BehaviourJudge, count
from llmrl.rewards.behaviours import Behaviours, counts
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.train.metrics import rollout_metrics
from llmrl.types import Problem, Score, Trajectory
from tests import builders
from tests.http_server import Answer, HttpServer, Reply, completion

SENTENCES = [
    json.loads(line)
    for line in (Path(__file__).parent / "behaviour_sentences.jsonl").read_text(encoding="utf-8").splitlines()
]
TEXT = "25 + 3 = 28. That is not 44. Let me try another way: 25 - 3 = 22, and 22 * 2 = 44, which is the target."


def episode(text: str, number: int = 0) -> Trajectory:
    problem = Problem(
        id="p", messages=[{"role": "user", "content": "Reach 44."}], info={"nums": [25, 3, 2], "target": 44}
    )
    return builders.episode(text, problem=problem, group="g", episode=number)


# By wording


@pytest.mark.parametrize("row", SENTENCES, ids=lambda row: row["text"] or "nothing")
def test_a_sentence_shows_what_people_say_it_shows(row: dict[str, Any]) -> None:
    assert [name for name, number in counts(row["text"]).items() if number] == row["shows"]


def test_a_sentence_counts_once_for_each_behaviour() -> None:
    assert counts("Check that 2 * 3 = 6, check that it is the target.\nIt is the target. Let us check 3.5 - 1.") == {
        "verification": 3.0,
        "backtracking": 0.0,
        "subgoal": 0.0,
        "backward_chaining": 0.0,
    }


def test_counts_are_logged_and_cannot_be_paid() -> None:
    assert Behaviours()(episode("").problem, TEXT).value is None
    with GradingPool(workers=1, timeout_s=5.0) as pool:

        def mixed(weight: float) -> Score:
            parts = {"countdown": 1.0, "behaviours": weight}
            said = f"{TEXT} <answer>(25 - 3) * 2</answer>"
            (score,) = asyncio.run(
                as_group_reward(build("reward", {"name": "mix", "parts": parts}), pool).score([episode(said)])
            )
            return score

        logged, paid = mixed(0.0), mixed(0.1)
    assert (logged.value, logged.verdict) == (1.0, "correct")
    assert logged.parts["behaviours/verification"] == 2.0
    assert (paid.value, "never paid" in paid.reason) == (None, True)
    metrics = rollout_metrics([[Trajectory(problem=episode("").problem, turns=[], status="done", score=logged)]])
    assert metrics["rewards/behaviours/backtracking/mean"] == 1.0
    assert "rewards/behaviours/mean" not in metrics


# By a judge


def test_the_last_count_is_read_and_a_missing_one_is_not_0() -> None:  # the case behaviour_count_parse
    replies = ["<count>3</count>", "<count> 2 </count>", "none", "<count>1</count> ... <count>4</count>"]
    found = [count(reply) for reply in replies]
    assert found == [3, 2, None, 4]
    scored = [
        Trajectory(
            problem=episode("").problem,
            turns=[],
            status="done",
            score=Score(None, parts={"judge/verification": number}),
        )
        for number in found
    ]
    assert rollout_metrics([scored])["rewards/judge/verification/mean"] == 3.0  # (3 + 2 + 4) / 3


def by_question(answer: Callable[[str], tuple[int, str]]) -> Answer:
    """A status and the text of a chat completion, by the question that was asked."""

    def reply(body: Any) -> Reply:
        status, text = answer(body["messages"][0]["content"])
        return status, completion(text)

    return reply


@pytest.fixture
def judge(server: HttpServer) -> HttpServer:
    server.models = (200, {"data": [{"id": "the-judge"}]})
    server.answer = by_question(lambda asked: (200, "<count>1</count>"))
    return server


def ask(judge: HttpServer, *texts: str, **options: Any) -> list[Score]:
    reward = BehaviourJudge(url=f"{judge.url}/v1", **{"pause_s": 0.01, "timeout_s": 2.0, **options})
    return asyncio.run(reward.as_group_reward().score([episode(text, i) for i, text in enumerate(texts)]))


def test_four_questions_are_asked_of_each_answer(judge: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    numbers = {question: str(i) for i, question in enumerate(QUESTIONS.values())}
    judge.answer = by_question(
        lambda asked: (200, f"<count>{next(n for q, n in numbers.items() if q in asked)}</count>")
    )
    first, second = ask(judge, "one reasoning", "two reasoning")
    assert first == second
    assert first.value is None
    assert first.parts == {
        "verification": 0,
        "backtracking": 1,
        "subgoal": 2,
        "backward_chaining": 3,
        "unanswered": 0.0,
        "requests": 4.0,
        "prompt_tokens": 400.0,
        "completion_tokens": 40.0,
        "cached": 0.0,
        "corrupt_entries": 0.0,
    }
    (dear,) = ask(judge, "three reasoning", prompt_price=2e4, completion_price=1e5)
    assert dear.parts["cost"] == pytest.approx(8.0 + 4.0)
    judge.requests = judge.requests[:8]
    assert len(judge.asked) == 8
    assert {body["model"] for body in judge.asked} == {"the-judge"}
    assert {request.key for request in judge.requests} == {"Bearer secret"}
    assert sum("one reasoning" in body["messages"][0]["content"] for body in judge.asked) == 4
    assert all("Reach 44." in body["messages"][0]["content"] for body in judge.asked)


def test_a_reply_without_a_count_is_a_missing_value(judge: HttpServer) -> None:
    judge.answer = by_question(
        lambda asked: (200, "Three, I think." if QUESTIONS["subgoal"] in asked else "<count>2</count>")
    )
    (score,) = ask(judge, "text", model="any")
    assert score.parts["subgoal"] is None
    assert (score.parts["verification"], score.parts["unanswered"]) == (2, 1.0)
    assert "no count of subgoal" in score.reason


def test_what_may_pass_is_tried_again_and_not_without_end(judge: HttpServer) -> None:
    statuses = iter([503, 429, 200])
    lock = threading.Lock()

    def answer(asked: str) -> tuple[int, str]:
        if QUESTIONS["subgoal"] in asked:
            with lock:
                return next(statuses), "<count>5</count>"
        return 500, "broken"

    judge.answer = by_question(answer)
    (score,) = ask(judge, "text", model="any", retries=2)
    assert score.parts["subgoal"] == 5
    assert (score.parts["verification"], score.parts["unanswered"]) == (None, 3.0)
    assert "HTTP 500" in score.reason
    assert len(judge.asked) == 12  # four questions, three tries each


def test_a_judge_that_is_slow_or_gone_gives_no_counts(judge: HttpServer) -> None:
    done = threading.Event()
    judge.answer = by_question(lambda asked: (200, "<count>1</count>" if done.wait(5) else ""))
    (slow,) = ask(judge, "text", model="any", retries=0, timeout_s=0.1)
    done.set()
    assert slow.parts["unanswered"] == 4.0
    assert "Timeout" in slow.reason
    gone = BehaviourJudge(url="http://127.0.0.1:1/v1", retries=1, pause_s=0.0)
    (score,) = asyncio.run(gone.as_group_reward().score([episode("text")]))
    assert score.parts["verification"] is None


def test_a_refusal_stops_and_says_where_to_look(judge: HttpServer) -> None:
    judge.answer = by_question(lambda asked: (401, "who are you"))
    with pytest.raises(RewardError, match=r"HTTP 401.*check url, model and \$OPENAI_API_KEY"):
        ask(judge, "text", model="any")
    judge.answer = by_question(lambda asked: (400, "too long"))  # of one text; the others may be shorter
    (score,) = ask(judge, "text", model="any")
    assert score.parts["unanswered"] == 4.0


def test_a_share_of_the_answers_is_judged_and_always_the_same(judge: HttpServer) -> None:
    texts = [str(i) for i in range(40)]
    first = [score.parts for score in ask(judge, *texts, model="any", share=0.25)]
    asked = len(judge.asked)
    assert first == [score.parts for score in ask(judge, *texts, model="any", share=0.25)]
    judged = sum(bool(parts) for parts in first)
    assert (4 < judged < 18, asked) == (True, 4 * judged)
