"""Statistics of repeated attempts, with intervals over problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb

from llmrl.ops.scores import elected, votes

REPEATS = 10_000  # resamplings of an interval
CHUNK = 2_000_000  # numbers drawn at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its 95 % interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Convert to plain values, for JSON."""
        return asdict(self)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of `k` attempts is right, from `n` attempts.

    Args:
        n: attempts made, at least `k`.
        correct: how many were right, 0 to `n`.
        k: attempts allowed, at least 1.
    Raises:
        ValueError: fewer attempts than `k`, or more right than made.
    Source: Chen et al. 2021 (arXiv 2107.03374), eq. 1: 1 - C(n - c, k) / C(n, k).
    """
    if not 1 <= k <= n or not 0 <= correct <= n:
        raise ValueError(f"pass@{k} of {correct} right in {n}: expected 1 <= k <= n and 0 <= right <= n")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def majority(answers: Sequence[str | None], right: Sequence[bool]) -> bool:
    """Tell whether the most frequent answer is right; the first of tied answers wins, None does not vote.

    Where attempts with the same answer were judged differently, the first of them decides.
    """
    winner = elected(votes(answers))
    return winner is not None and right[answers.index(winner)]


def estimate(values: Sequence[float], seed: int = 0, repeats: int = REPEATS) -> Estimate:
    """Mean of one number per problem, and the 2.5th and 97.5th percentile of the means of resampled problems.

    Where all values are equal the interval has no width: a percentile bootstrap knows no values beyond the sample.

    Raises:
        ValueError: no values.
    Source: Efron 1979, "Bootstrap methods: another look at the jackknife".
    """
    import numpy as np

    if not len(values):
        raise ValueError("no values to average; expected one per problem")
    data = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed)
    rows = max(1, CHUNK // len(data))
    means = np.concatenate(
        [
            data[draws.integers(0, len(data), (min(rows, repeats - start), len(data)))].mean(axis=1)
            for start in range(0, repeats, rows)
        ]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(data.mean()), float(low), float(high))


def difference(after: Mapping[str, float], before: Mapping[str, float], seed: int = 0) -> Estimate:
    """Mean gain of `after` over `before` on the problems that both have: a paired, hence narrower, interval.

    Args:
        after, before: a number per problem id, such as the share of right attempts.
    Raises:
        ValueError: they have no problem in common.
    """
    return estimate([after[name] - before[name] for name in after if name in before], seed)
