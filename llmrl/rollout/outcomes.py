"""Outcomes of a group as one number."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from llmrl.types import Trajectory


def pass_rate(group: Sequence[Trajectory]) -> float | None:
    """Share of right answers, or their mean reward where there are no verdicts; None where none was judged."""
    judged = [
        (episode.score.correct, episode.earned)
        for episode in group
        if episode.score is not None and episode.earned is not None
    ]
    return fmean(earned if correct is None else correct for correct, earned in judged) if judged else None
