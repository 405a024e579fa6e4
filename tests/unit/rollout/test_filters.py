"""The groups that a step learns from, and the metrics of the others."""

from __future__ import annotations

from typing import Any

import pytest

from llmrl.rollout.filters import DynamicSampling, Staleness, informative, lag_metrics
from llmrl.types import Completion, Problem, Score, Trajectory, Turn

PROBLEMS = [Problem(id="p0", messages=[{"role": "user", "content": "0+1="}])]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([Score(1.0, "correct"), Score(0.0, "wrong")], True),
        ([Score(0.0, "wrong"), Score(0.0, "unparsable")], False),
        # The shaped values differ, but all are right, or all wrong
        ([Score(1.0, "correct"), Score(0.7, "correct")], False),
        ([Score(-0.3, "wrong"), Score(0.1, "truncated")], False),
        # Nobody said right or wrong: values decide
        ([Score(0.2), Score(0.9)], True),
        ([Score(0.2), Score(0.2)], False),
        # What could not be judged says nothing
        ([Score(1.0, "correct"), Score(None, "timeout")], False),
        ([Score(1.0, "correct"), Score(None, "error"), Score(0.0, "wrong")], True),
        ([Score(None), Score(None)], False),
    ],
)
def test_informative_goes_by_verdicts(scores: list[Score], expected: bool) -> None:
    group = [Trajectory(problem=PROBLEMS[0], turns=[], status="done", score=score) for score in scores]
    assert informative(group) is expected


def test_without_verdicts_what_was_earned_decides() -> None:
    def earned(reward: float) -> Trajectory:
        completion = Completion(token_ids=[1], logprobs=[-1.0], finish="stop", version=0)
        turn = Turn(prompt_ids=[], completion=completion, text="", reward=reward)
        return Trajectory(problem=PROBLEMS[0], turns=[turn], status="done", score=Score(0.5))

    assert informative([earned(0.0), earned(0.25)])
    assert not informative([earned(0.25), earned(0.25)])


def test_metrics_tell_the_lag_and_what_came_late() -> None:
    def episode(group: str, versions: list[int], verdict: Any) -> Trajectory:
        said = Completion(
            token_ids=[1] * len(versions),
            logprobs=[-1.0] * len(versions),
            finish="stop",
            version=versions[0],
            versions=versions,
        )
        turn = Turn(prompt_ids=[1], completion=said, text="")
        score = Score(float(verdict == "correct"), verdict)
        return Trajectory(problem=PROBLEMS[0], turns=[turn], status="done", score=score, group=group)

    groups = [
        [episode("0/a", [4, 4, 5, 5], "correct"), episode("0/a", [5, 5], "wrong")],
        [episode("1/b", [5, 5, 5, 5], "correct"), episode("1/b", [2, 5], "correct")],
    ]
    found = lag_metrics(groups, 5, 1)
    assert found["staleness/dropped"] == 1, "a group goes with its oldest token"
    assert (found["staleness/dropped/mean_length"], found["staleness/dropped/accuracy"]) == (3.0, 1.0)
    assert found["staleness/lag_0/frac"] == 0.5
    assert (found["staleness/lag_0/mean_length"], found["staleness/lag_0/accuracy"]) == (3.0, 0.5)
    assert (found["staleness/lag_1/frac"], found["staleness/lag_1/mean_length"]) == (0.25, 4.0)
    assert lag_metrics([], 5, 1) == {"staleness/dropped": 0.0}
    assert [Staleness(1).wanted(group, 5) for group in groups] == [True, False]
    assert Staleness(1).metrics(groups, 5) == found
    assert [DynamicSampling().wanted(group, 5) for group in groups] == [True, False]
