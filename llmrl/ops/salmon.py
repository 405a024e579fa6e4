"""The numbers of SALMON: what a judge's two answers say, which principle decides, and what is added to a reward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from statistics import pvariance

Gaps = tuple[float, float]
"""How much rather a judge takes the first answer, in nats: shown as (a), then as (b). Positive: the first is better."""


def consistent(gaps: Gaps) -> bool:
    """True if the judge prefers the same answer in both orders."""
    return gaps[0] * gaps[1] > 0


def variances(judged: Iterable[Mapping[str, Gaps]]) -> dict[str, float]:
    """By principle: the variance, by n, of all its gaps: both orders of every pair. Each has a scale of its own."""
    by_principle: dict[str, list[float]] = {}
    for row in judged:
        for name, gaps in row.items():
            by_principle.setdefault(name, []).extend(gaps)
    return {name: pvariance(gaps) for name, gaps in by_principle.items()}


def combined(gaps: Gaps, variance: float, negated: bool = False) -> float:
    """The score of the first answer against the second: the mean gap over its variance.

    0.0 where the two orders disagree, or where the judge never hesitated (variance 0). A negated principle asks for
    the opposite.
    """
    if not consistent(gaps) or variance <= 0:
        return 0.0
    score = (gaps[0] + gaps[1]) / 2 / variance
    return -score if negated else score


def dominant(scores: Mapping[str, float]) -> str | None:
    """The principle with the largest score, either way; the first of equals; None where all are 0."""
    name = max(scores, key=lambda one: abs(scores[one]), default=None)
    return name if name is not None and scores[name] != 0 else None


def how_many(random: Random, most: int, stop: float = 0.2) -> int:
    """Draw the number of principles of a row: geometric, drawn again until it is at most `most` (at least 1)."""
    while True:
        count = 1
        while random.random() >= stop:
            count += 1
        if count <= most:
            return count


def length_bonus(tokens: int, coefficient: float, ceiling: float = 0.8, unit: int = 1024) -> float:
    """`min(coefficient * tokens / unit, ceiling)`: it may grow so far and no further; downwards there is no end."""
    return min(coefficient * tokens / unit, ceiling)


def inclusion(weights: Sequence[float], k: int) -> list[float]:
    """Probability of each item to be among k drawn in turn by weight, without replacement. Sums to k."""
    if k == 0:
        return [0.0] * len(weights)
    total = sum(weights)
    chances = [0.0] * len(weights)
    for first, weight in enumerate(weights):
        if weight == 0:
            continue
        rest = inclusion([0.0 if i == first else w for i, w in enumerate(weights)], k - 1)
        for i, share in enumerate(rest):
            chances[i] += weight / total * (1.0 if i == first else share)
    return chances


def shaped(
    score: float,
    tokens: int,
    stopped: bool,
    coefficient: float,
    *,
    scale: float = 5.0,
    ceiling: float = 0.8,
    no_stop: float = -6.0,
) -> dict[str, float]:
    """Parts of an answer's reward: the reward model's score, the bonus for length, the penalty for no end.

    Args:
        score: of the reward model, in its own unit.
        tokens: of the answer.
        stopped: whether the policy ended it, rather than a limit.
        coefficient: of the length: 1.0 for general problems, -0.4 for reasoning, 0 for none.
        scale, ceiling: the bonus is `scale * length_bonus(tokens, coefficient, ceiling)`.
        no_stop: added where the answer has no end, at most 0.
    Returns:
        `rm`, `length_bonus` and `stop`; the reward is their sum.
    """
    bonus = scale * length_bonus(tokens, coefficient, ceiling)
    return {"rm": score, "length_bonus": bonus, "stop": 0.0 if stopped else no_stop}
