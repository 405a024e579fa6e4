"""The reward `environment`: verdicts of environments, beside the rewards that they gave."""

from __future__ import annotations

from typing import Any

import pytest

from llmrl.aio import wait
from llmrl.errors import RewardError
from llmrl.rewards.environment import Environment
from llmrl.types import Score
from tests.builders import episode, turn


def scored(reward: Environment = Environment(), **facts: Any) -> Score:  # noqa: B008
    (score,) = wait(reward.score([episode(turn("a", reward=0.5), turn("b", reward=1.0), **facts)]))
    return score


def test_the_verdict_is_the_environments_and_the_value_is_that_of_the_turns() -> None:
    score = scored(verdict="correct", metrics={"moves": 3.0})
    assert (score.value, score.verdict, score.parts) == (0.0, "correct", {"moves": 3.0})
    assert episode(turn("a", reward=0.5), turn("b", reward=1.0), score=score).earned == 1.5


def test_what_a_limit_ended_before_it_was_judged_is_truncated() -> None:
    for status in ("max_turns", "max_tokens", "cut"):
        assert scored(status=status).verdict == "truncated"
    assert scored(status="cut", verdict="wrong").verdict == "wrong"


def test_an_environment_whose_judge_broke_gives_no_value() -> None:
    assert scored(verdict="error") == Score(None, "error")


def test_an_environment_that_judges_nothing_is_refused_unless_that_is_said() -> None:
    with pytest.raises(RewardError, match=r"problem p: reward environment: .* without a verdict.*judged=false"):
        scored()
    assert scored(Environment(judged=False), metrics={"moves": 3.0}) == Score(0.0, parts={"moves": 3.0})
    assert scored(Environment(judged=False), status="max_turns").verdict is None
