"""Verdicts: when a token limit is the reason for one, and the share of each in a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from llmrl.types import Score, Trajectory, Verdict

FAILED: frozenset[Verdict] = frozenset({"timeout", "error"})
"""Verdicts that say nothing about the answer."""


def mark_truncated(trajectory: Trajectory, score: Score) -> Score:
    """The score, `truncated` in place of `wrong` or `unparsable` where a token limit cut the answer off.

    The limit is then why no right answer was found; the value stays. A right answer stays `correct`, and a grader that
    broke says nothing about the answer.
    """
    cut = trajectory.truncated and score.verdict in ("wrong", "unparsable")
    return replace(score, verdict="truncated") if cut else score


def verdict_metrics(scores: Sequence[Score]) -> dict[str, float]:
    """`verdict/<kind>_frac`: the share of each verdict among the scores that have one; none where none has.

    A reward that judges nothing has scores without verdict: then what failed is a share of all scores.
    """
    verdicts = [score.verdict for score in scores if score.verdict is not None]
    if not verdicts:
        return {}
    among = len(scores) if set(verdicts) <= FAILED else len(verdicts)
    return {f"verdict/{kind}_frac": verdicts.count(kind) / among for kind in get_args(Verdict)}
