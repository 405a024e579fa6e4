"""Outcomes of a group as one number."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from llmrl.types import Trajectory


def pass_rate(group: Sequence[Trajectory], short: bool = False) -> float | None:
    """Share of right answers, or their mean reward where there are no verdicts.

    With `short`, answers that were cut off do not count. None where none was judged.
    """
    counted = [episode for episode in group if not (short and episode.truncated)]
    judged = [
        (episode.score.correct, episode.earned)
        for episode in counted
        if episode.score is not None and episode.earned is not None
    ]
    return fmean(earned if correct is None else correct for correct, earned in judged) if judged else None
