"""Choice of the problems that teach most: plain numbers and NumPy arrays, no problems and no models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrl.samples import Array

FLOOR = 1e-3
"""Least learning progress of a bin: none is ever given up."""


def mixed(weights: Array, random_share: float) -> Array:
    """(n,) probabilities: `random_share` of them uniform, the others in proportion to weights of at least 0.

    Where no weight is above 0, all of them are uniform.
    """
    total, uniform = float(weights.sum()), np.full(len(weights), 1.0 / len(weights))
    return uniform if total <= 0 else random_share * uniform + (1 - random_share) * (weights / total)


def bin_probabilities(progress: Array, random_share: float) -> Array:
    """(bins,) probability of each bin, by its mean absolute learning progress."""
    return mixed(np.maximum(progress, FLOOR), random_share)


def learning_progress(tasks: Array, rewards: Array, task: Array, reward: float) -> tuple[int, float]:
    """Absolute learning progress of a new outcome against that of the nearest earlier task, the newest of equals.

    Args:
        tasks: (m, d) earlier tasks, at least one, the oldest first.
        rewards: (m,) their outcomes.
        task: (d,) the new one, with outcome `reward`.
    Returns:
        The index of the neighbour, and `|reward - its reward|`.
    Source: ALP-GMM (Portelas et al. 2019, arXiv 1910.07224), section 3.
    """
    distances = np.square(tasks - task).sum(axis=1)
    nearest = len(distances) - 1 - int(np.argmin(distances[::-1]))
    return nearest, abs(reward - float(rewards[nearest]))


def smoothed(mean: float, value: float, half_life: float) -> float:
    """Exponential mean after one more value, of which a value `half_life` visits ago counts half as much."""
    return mean + (1 - float(0.5 ** (1 / half_life))) * (value - mean)


def transfer_gain(mean: Array, deviation: Array, beta: float, slope: float, distances: Array, best: Array) -> Array:
    """(n,) expected gain over all tasks of training on each: MBTL's acquisition.

    Args:
        mean, deviation: (n,) of the performance that training on a task would reach there.
        beta: how much the deviation counts.
        slope: performance lost per unit of distance.
        distances: (n, n) between the tasks.
        best: (n,) performance on each task so far.
    Source: MBTL (Cho et al. 2024, arXiv 2408.04498), with an upper confidence bound.
    """
    reached = (mean + beta * deviation)[:, None] - slope * distances
    return np.asarray(np.maximum(reached - best[None, :], 0.0).mean(axis=1))


def cooled(temperature: float, success: float, *, threshold: float, decay: float, floor: float) -> float:
    """The adversary's next temperature: lower where the protagonist succeeds often enough, else as it was."""
    return max(temperature * decay, floor) if success >= threshold else temperature


def quantal_response(payoffs: Array, temperature: float) -> Array:
    """(n,) choice probabilities of an adversary that maximises `payoff + temperature * entropy`."""
    scaled = (payoffs - payoffs.max()) / temperature
    odds = np.exp(scaled)
    return np.asarray(odds / odds.sum())


def draw(probabilities: Array, count: int, generator: np.random.Generator) -> list[int]:
    """Draw indices in proportion, each once; more than can be drawn so begin again, as often as it takes.

    Source: Efraimidis and Spirakis 2006, with exponential keys.
    """
    drawn: list[int] = []
    while len(drawn) < count:
        with np.errstate(divide="ignore"):
            keys = generator.exponential(size=len(probabilities)) / probabilities
        order = np.argsort(keys, kind="stable")[: min(count - len(drawn), int((probabilities > 0).sum()))]
        drawn += order.tolist()
    return drawn


def effective(probabilities: Sequence[float] | Array) -> float:
    """Exponential of the entropy: how many equally likely problems would be as varied."""
    given = np.asarray(probabilities)
    given = given[given > 0]
    return float(np.exp(-(given * np.log(given)).sum()))
