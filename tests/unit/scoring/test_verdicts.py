"""When a token limit is the reason for a verdict."""

from __future__ import annotations

import pytest

from llmrl.scoring.verdicts import mark_truncated
from llmrl.types import Finish, Score, Status, Trajectory, Verdict
from tests import builders


def episode(finish: Finish = "stop", status: Status = "done") -> Trajectory:
    return builders.episode(builders.turn("4", finish=finish), status=status)


@pytest.mark.parametrize(
    ("verdict", "marked"),
    [
        ("wrong", "truncated"),
        ("unparsable", "truncated"),
        ("correct", "correct"),  # the answer stood before the limit
        ("timeout", "timeout"),  # the grader's doing, not the limit's
        ("error", "error"),
        ("truncated", "truncated"),
        (None, None),
    ],
)
def test_a_limit_is_why_an_answer_is_wrong(verdict: Verdict | None, marked: Verdict | None) -> None:
    score = Score(0.25, verdict, {"a": 1.0}, reason="so", answer="4")
    expected = Score(0.25, marked, {"a": 1.0}, reason="so", answer="4")
    assert mark_truncated(episode("length"), score) == expected
    assert mark_truncated(episode(status="max_tokens"), score) == expected, "no room for the next prompt"
    assert mark_truncated(episode(), score) is score
    assert mark_truncated(episode(status="max_turns"), score) is score
