"""Credit with a critic: arithmetic on arrays of the host, one ragged sequence of tokens at a time, in float64.

A sequence is what one episode is made of: the columns of its sample, or of its samples behind one another where its
history was rewritten. Tokens that the policy did not choose are skipped as if they were not there: the state after an
action is the state before the next action, however many observed tokens, or samples, lie between the two. So values and
accumulators are carried across them unchanged, and what stands at them never matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from llmrl.samples import Array

EPSILON = 1e-8
"""Added to the variance that whitening divides by."""
NO_VARIANCE = 1e-12
"""Returns that vary less than this are equal but for rounding: there is nothing to explain."""


def gae(
    rewards: ArrayLike,
    values: ArrayLike,
    mask: ArrayLike,
    *,
    gamma: ArrayLike = 1.0,
    lam: float = 1.0,
    last: float = 0.0,
) -> Array:
    """Generalised advantage estimates: how much better each action was than the critic expected.

    Args:
        rewards: one per token, 0.0 at those not chosen: `fold` moves rewards of observations to the action before.
        values: the critic's, of the state before each token.
        mask: True where the policy chose the token.
        gamma: discount of the step from an action to the next, from 0 to 1; one number, or one per token.
        lam: 0 trusts the critic after one step, 1 the rewards alone.
        last: value of the state after the last action; 0.0 where the episode ended there.
    Returns:
        One number per token, 0.0 at those not chosen. Plus the value it is the critic's target: the return that lam
        estimates, for lam 1 the discounted sum of the rewards to come.
    Source: Schulman et al. 2016 (arXiv 1506.02438), eq. 16.
    """
    earned, known = _of_actions(rewards, mask), _of_actions(values, mask)
    discount = _discounts(gamma, mask)
    following = np.append(known, last)[1:]
    deltas = earned + discount * following - known
    return spread(discounted(deltas, discount * lam), mask)


def returns(rewards: ArrayLike, mask: ArrayLike, *, gamma: ArrayLike = 1.0) -> Array:
    """The discounted sum of the rewards from each action on; 0.0 at tokens not chosen, which do not end the sum."""
    return spread(discounted(_of_actions(rewards, mask), _discounts(gamma, mask)), mask)


def discounted(numbers: Array, decay: float | Array) -> Array:
    """Sums `y[t] = x[t] + decay[t] * y[t + 1]`, from the last entry backwards; one decay, or one of each entry.

    Each pass doubles how far every sum reaches: after `reach` 1, 2, 4 ... entry t holds x[t] to x[t + 2 * reach - 1].
    The order of the additions differs from that of a loop, and rounding with it, by some 1e-16 of the result.
    """
    if isinstance(decay, float) and decay == 1.0:
        return np.cumsum(numbers[::-1])[::-1]
    sums, reach = numbers.copy(), 1
    while reach < len(sums) and np.any(share := _reaching(decay, reach)):
        sums[:-reach] += share * sums[reach:]
        reach *= 2
    return sums


def _reaching(decay: float | Array, reach: int) -> float | Array:
    """Product of the decays of `reach` entries, from each entry on that so many follow."""
    if isinstance(decay, float):
        return float(decay**reach)
    shares, known = decay, 1
    while known < reach:
        shares, known = shares[:-known] * shares[known:], 2 * known
    return shares[: len(decay) - reach]


def fold(rewards: ArrayLike, mask: ArrayLike) -> Array:
    """Rewards with those at observed tokens moved to the action before them, or to the first if there is none before.

    The sum stays as it is. Without any action all are 0.0.
    """
    rewards, mask = np.asarray(rewards, np.float64), np.asarray(mask, bool)
    if not mask.any():
        return np.zeros(len(rewards))
    owner = np.maximum.accumulate(np.where(mask, np.arange(len(mask)), mask.argmax()))
    folded: Array = np.bincount(owner, rewards, len(rewards))
    return folded


def spread(numbers: ArrayLike, mask: ArrayLike) -> Array:
    """Spread numbers over the True entries of the mask, in order; 0.0 elsewhere."""
    mask = np.asarray(mask, bool)
    column = np.zeros(len(mask))
    column[mask] = numbers
    return column


def adaptive_lambda(actions: int, alpha: float) -> float:
    """`1 - 1 / (alpha * actions)`, cut to [0, 1]: a reward reaches back through a share of the answer, however long.

    Args:
        actions: how many the episode has; at most 1 / alpha of them give 0.
        alpha: above 0; the published value is 0.05.
    Source: VAPO (arXiv 2504.05118).
    """
    return max(0.0, 1.0 - 1.0 / (alpha * actions)) if actions else 0.0


def whiten(
    columns: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    shift_mean: bool = True,
    bessel: bool = False,
) -> Iterator[Array]:
    """Columns of a whole step with variance 1 over all their action tokens together.

    Args:
        columns: numbers, one per token.
        masks: True where the policy chose the token.
        shift_mean: whether the mean becomes 0, as advantages want it, or stays, as rewards do.
        bessel: divide by the count less one in the variance.
    Returns:
        Columns in the same order, each made when it is asked for; 0.0 at tokens not chosen, whatever stood there.
        EPSILON is added to the variance.
    """
    pairs = list(zip(columns, masks, strict=True))
    mean, variance = _moments(lambda: (_of_actions(column, mask) for column, mask in pairs))
    if bessel:
        count = sum(int(np.count_nonzero(mask)) for mask in masks)
        variance *= count / max(1, count - 1)
    scale, kept = 1.0 / sqrt(variance + EPSILON), 0.0 if shift_mean else mean
    return (spread((_of_actions(column, mask) - mean) * scale + kept, mask) for column, mask in pairs)


def explained_variance(targets: RunningMoments, errors: RunningMoments) -> float | None:
    """`1 - Var(errors) / Var(targets)`: 1 for a perfect critic, 0 for a constant, below 0 for a harmful one.

    `errors` are targets less values. None where the targets do not vary, so that nothing can be explained.
    """
    return None if targets.variance <= NO_VARIANCE else 1.0 - errors.variance / targets.variance


@dataclass(slots=True)
class RunningMoments:
    """Mean and biased variance of numbers that come in parts, none of which is kept; 0.0 and 0.0 of nothing."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def add(self, part: ArrayLike) -> Self:
        """Take in one part (Chan, Golub and LeVeque 1983, eq. 1.5)."""
        added = len(numbers := np.asarray(part))
        if added:
            mean, variance = _moments(lambda: [numbers])
            count, distance = self.count + added, mean - self.mean
            between = distance * distance * self.count * added / count
            self.variance = (self.variance * self.count + variance * added + between) / count
            self.mean += distance * added / count
            self.count = count
        return self


def _moments(parts: Callable[[], Iterable[Array]]) -> tuple[float, float]:
    """Mean and biased variance of all numbers of the parts, which are asked for twice; 0.0 and 0.0 of nothing."""
    sums = [(len(part), float(part.sum(dtype=np.float64))) for part in parts()]
    if not (count := sum(size for size, _ in sums)):
        return 0.0, 0.0
    mean = sum(total for _, total in sums) / count
    squares = (np.square(np.subtract(part, mean, dtype=np.float64)).sum() for part in parts())
    return mean, sum(map(float, squares)) / count


def adapted_kl(coefficient: float, observed: float, target: float, horizon: float, samples: int) -> float:
    """The coefficient of the divergence for the next step: up where the policy strays, down where it stays.

    Args:
        coefficient: of this step.
        observed: mean over the step's episodes of the *sum* over their tokens of log(policy / reference), in nats.
        target: the same quantity; above 0. A mean over tokens beside a target for sums would turn control off.
        horizon: how many episodes a full correction takes.
        samples: how many episodes the step had.
    Source: Ziegler et al. 2019 (arXiv 1909.08593).
    """
    error = max(-0.2, min(0.2, observed / target - 1.0))
    return coefficient * (1.0 + error * samples / horizon)


def _discounts(gamma: ArrayLike, mask: ArrayLike) -> float | Array:
    """The one discount, or those that stand at action tokens."""
    return _of_actions(gamma, mask) if np.ndim(gamma) else float(gamma)  # type: ignore[arg-type]


def _of_actions(column: ArrayLike, mask: ArrayLike) -> Array:
    """The entries that stand at action tokens, in float64."""
    entries: Array = np.asarray(column)[np.asarray(mask, bool)].astype(np.float64)
    return entries
