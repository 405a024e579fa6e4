from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from llmrl.types import Completion, Finish, Problem, Sampling, Score, Status, Trajectory, Turn, Verdict

PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "1+1="}], answer="2")


def turn(text: str, finish: Finish) -> Turn:
    completion = Completion(token_ids=[1], logprobs=[-1.0], finish=finish, version=0)
    return Turn(prompt_ids=[0], completion=completion, text=text)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Sampling(temperature=0.3), "scaled"),
        (Sampling(top_p=0.99), "renormalised"),
        (Sampling(top_k=50), "renormalised"),
        (Sampling(min_p=0.1), "renormalised"),
    ],
)
def test_whatever_cuts_the_distribution_is_told(settings: Sampling, expected: str) -> None:
    assert settings.semantics == expected


@pytest.mark.parametrize(
    ("status", "turns", "truncated"),
    [
        ("done", [turn("a", "stop")], False),
        ("done", [turn("a", "length")], True),
        ("done", [turn("a", "length"), turn("b", "stop")], False),
        ("max_tokens", [turn("a", "stop")], True),
        ("max_turns", [turn("a", "stop")], False),
        ("error", [], False),
    ],
)
def test_truncated_is_what_a_token_limit_ended(status: Status, turns: list[Turn], truncated: bool) -> None:
    assert Trajectory(problem=PROBLEM, turns=turns, status=status).truncated is truncated


def test_the_text_is_the_last_words() -> None:
    assert Trajectory(problem=PROBLEM, turns=[turn("a", "stop"), turn("b", "stop")], status="done").text == "b"
    assert Trajectory(problem=PROBLEM, turns=[], status="error").text == ""


def test_values_are_frozen_and_survive_a_pickle() -> None:
    with pytest.raises(FrozenInstanceError):
        PROBLEM.answer = "3"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(PROBLEM)) == PROBLEM


@pytest.mark.parametrize(
    ("verdict", "correct"),
    [
        ("correct", True),
        ("wrong", False),
        ("unparsable", False),
        ("truncated", False),
        ("timeout", None),
        ("error", None),
        (None, None),
    ],
)
def test_a_score_knows_whether_the_answer_is_right(verdict: Verdict | None, correct: bool | None) -> None:
    assert Score(0.5, verdict).correct is correct


def test_an_episode_earned_its_score_and_the_rewards_of_its_turns() -> None:
    turns = [replace(turn("a", "stop"), reward=0.5), replace(turn("b", "stop"), reward=0.25)]
    one = Trajectory(problem=PROBLEM, turns=turns, status="done", score=Score(1.0, token_rewards=[8.0]))
    assert one.earned == 1.75, "without the rewards of single tokens"
    assert replace(one, score=None).earned is None
    assert replace(one, score=Score(None, "timeout")).earned is None, "whatever its turns earned"


def test_stop_strings_are_a_tuple_of_strings_that_are_not_empty() -> None:
    for stop in ("ab", ("",)):
        with pytest.raises(ValueError, match="expected a tuple of strings"):
            Sampling(stop=stop)  # type: ignore[arg-type]
