"""Scores of steps and of answers: one number of many, which answer to choose by them, and how well that chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb, exp, inf, log, prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Aggregation = Literal["min", "prod", "geomean", "last", "mean", "sum_logit"]
TINY = 1e-12


def aggregate(probabilities: Sequence[float], how: Aggregation = "min") -> float:
    """The score of an answer from the probabilities, 0 to 1, that its steps are right.

    `min`: of the weakest step. `prod`: that all are right, if they were independent; falls with every step. `geomean`:
    the same by step. `last`: for labels that are values. `mean`. `sum_logit`: of logits, each between -28 and 28.

    Raises:
        ValueError: there is no step.
    """
    if not probabilities:
        raise ValueError("an answer without steps has no score; expected at least one")
    if how == "min":
        return min(probabilities)
    if how == "prod":
        return prod(probabilities)
    if how == "geomean":
        return exp(sum(map(_log, probabilities)) / len(probabilities))
    if how == "last":
        return probabilities[-1]
    if how == "mean":
        return sum(probabilities) / len(probabilities)
    return sum(_logit(p) for p in probabilities)


def first_below(probabilities: Sequence[float], threshold: float = 0.5) -> int | None:
    """The first step that is more likely wrong than right, from 0; None where there is none."""
    return next((k for k, p in enumerate(probabilities) if p < threshold), None)


def running_mean(numbers: ArrayLike) -> NDArray[np.float64]:
    """Means of the first 1, 2, 3 ... numbers, as many as there are numbers."""
    sums = np.cumsum(np.asarray(numbers, np.float64))
    means: NDArray[np.float64] = sums / np.arange(1, len(sums) + 1)
    return means


def best_of_n(scores: Sequence[float]) -> int:
    """Index of the highest score; the earliest of several."""
    return max(range(len(scores)), key=scores.__getitem__)


def votes(
    answers: Sequence[str | None], weights: Sequence[float] | None = None, how: Literal["sum", "max"] = "sum"
) -> dict[str, float]:
    """Votes of each different answer, in order of appearance; None, an unreadable answer, does not vote.

    Args:
        answers: in one spelling each, so that equal answers are equal texts.
        weights: of each, such as a reward model's score; None: a vote is a vote.
        how: whether an answer has the sum of its votes or its highest.
    """
    found: dict[str, float] = {}
    for answer, weight in zip(answers, [1.0] * len(answers) if weights is None else weights, strict=True):
        if answer is not None:
            before = found.get(answer)
            found[answer] = weight if before is None else before + weight if how == "sum" else max(before, weight)
    return found


def elected(counted: Mapping[str, float]) -> str | None:
    """The answer that has most; of several the one that appeared first; None where nobody voted."""
    return max(counted, key=counted.__getitem__, default=None)


def best_of_n_accuracy(scores: Sequence[float], correct: Sequence[bool], n: int) -> float:
    """Unbiased chance that the best of `n` answers is right: the mean over all subsets of the N that there are.

    Args:
        scores: of each answer; of equal ones the earlier counts as better, as `best_of_n` has it.
        correct: whether it is right.
        n: 1 to N.
    Raises:
        ValueError: another `n`, or as many verdicts as there are not scores.
    """
    if len(scores) != len(correct) or not 1 <= n <= len(scores):
        raise ValueError(f"best of {n} from {len(scores)} scores and {len(correct)} verdicts: expected 1 <= n <= N")
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    ways = comb(len(scores), n)
    return sum(comb(len(order) - place, n - 1) for place, i in enumerate(order, start=1) if correct[i]) / ways


def _log(number: float) -> float:
    return log(number) if number > 0 else -inf


def _logit(probability: float) -> float:
    bounded = min(max(probability, TINY), 1.0 - TINY)
    return log(bounded) - log(1.0 - bounded)
