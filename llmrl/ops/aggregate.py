"""Robust means over runs and tasks, and their confidence intervals.

Scores are `[run][task]`, normalised so that 0 and 1 mean the same in every task. Few runs are the rule here, and a mean
of five is moved by one that failed: the interquartile mean is not, and resampling whole runs within each task says how
far any of these would move with other seeds.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv 2108.13264).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor
from random import Random
from statistics import fmean

Scores = Sequence[Sequence[float]]
REPEATS = 2000


def interquartile_mean(scores: Scores) -> float:
    """The mean of the middle half of all scores: a quarter, rounded down, is cut from either end."""
    ordered = sorted(score for run in scores for score in run)
    cut = floor(len(ordered) / 4)
    return fmean(ordered[cut : len(ordered) - cut])


def mean(scores: Scores) -> float:
    """Mean of all scores."""
    return fmean(score for run in scores for score in run)


def optimality_gap(scores: Scores, gamma: float = 1.0) -> float:
    """Mean of the amounts by which scores fall short of `gamma`; a score above it counts as 0."""
    return gamma - fmean(min(score, gamma) for run in scores for score in run)


def probability_of_improvement(scores: Scores, other: Scores) -> float:
    """The chance that a run of the first beats one of the second, on average over tasks; a draw counts half."""

    def wins(mine: Sequence[float], theirs: Sequence[float]) -> float:
        return fmean((x > y) + 0.5 * (x == y) for x in mine for y in theirs)

    return fmean(map(wins, _by_task(scores), _by_task(other)))


def profile(scores: Scores, levels: Sequence[float]) -> list[float]:
    """For each level, the share of scores above it."""
    flat = [score for run in scores for score in run]
    return [fmean(score > level for score in flat) for level in levels]


def interval(
    scores: Scores, statistic: Callable[[Scores], float], *, repeats: int = REPEATS, seed: int = 0
) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of a statistic over resampled runs, drawn with replacement within each task.

    With fewer than three runs the interval says little: say so where it is shown.
    """
    random = Random(seed)
    tasks = _by_task(scores)
    resampled = sorted(
        statistic(_by_task([random.choices(task, k=len(task)) for task in tasks])) for _ in range(repeats)
    )
    return percentile(resampled, 0.025), percentile(resampled, 0.975)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The percentile of sorted numbers, interpolated linearly."""
    place = share * (len(ordered) - 1)
    below = floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _by_task(scores: Scores) -> list[list[float]]:
    return [list(column) for column in zip(*scores, strict=True)]
