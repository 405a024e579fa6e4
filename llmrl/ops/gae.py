"""Credit with a critic: plain numbers on the host, one ragged sequence of tokens at a time.

A sequence is what one episode is made of: the columns of its row, or of its rows behind one another where its history
was rewritten. Tokens that the policy did not choose are skipped as if they were not there: the state after an action is
the state before the next action, however many observed tokens, or rows, lie between the two. So values and accumulators
are carried across them unchanged, and what stands at them never matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from math import sqrt

EPSILON = 1e-8
"""Added to the variance that whitening divides by."""
NO_VARIANCE = 1e-12
"""Returns that vary less than this are equal but for rounding: there is nothing to explain."""


def gae(
    rewards: Sequence[float],
    values: Sequence[float],
    mask: Sequence[bool],
    *,
    gamma: float = 1.0,
    lam: float = 1.0,
    last: float = 0.0,
) -> list[float]:
    """Generalised advantage estimates: how much better each action was than the critic expected.

    Args:
        rewards: one per token, 0.0 at those not chosen: `fold` moves what an observation earned to the action before.
        values: the critic's, of the state before each token.
        mask: True where the policy chose the token.
        gamma: discount of a step of one action, from 0 to 1.
        lam: 0 trusts the critic after one step, 1 the rewards alone.
        last: value of the state after the last action; 0.0 where the episode ended there.
    Returns:
        One number per token, 0.0 at those not chosen. Plus the value it is the critic's target: the return that lam
        estimates, for lam 1 the discounted sum of the rewards to come.
    Source: Schulman et al. 2016 (arXiv 1506.02438), eq. 16.
    """
    earned, known = list(compress(rewards, mask)), list(compress(values, mask))
    gains: list[float] = []
    after, gain, decay = last, 0.0, gamma * lam
    for reward, value in zip(reversed(earned), reversed(known), strict=True):
        gain = reward + gamma * after - value + decay * gain
        gains.append(gain)
        after = value
    return spread(reversed(gains), mask)


def returns(rewards: Sequence[float], mask: Sequence[bool], *, gamma: float = 1.0) -> list[float]:
    """The discounted sum of the rewards from each action on; 0.0 at tokens not chosen, which do not end the sum."""
    sums: list[float] = []
    total = 0.0
    for reward in reversed(list(compress(rewards, mask))):
        total = reward + gamma * total
        sums.append(total)
    return spread(reversed(sums), mask)


def fold(rewards: Sequence[float], mask: Sequence[bool]) -> list[float]:
    """Rewards with those at observed tokens moved to the action before them, or to the first if there is none before.

    The sum stays as it is. Without any action there is nobody to pay, and all are 0.0.
    """
    folded = [0.0] * len(rewards)
    at = next((i for i, on in enumerate(mask) if on), None)
    if at is None:
        return folded
    for i, (reward, on) in enumerate(zip(rewards, mask, strict=True)):
        at = i if on else at
        folded[at] += reward
    return folded


def spread(numbers: Iterable[float], mask: Sequence[bool]) -> list[float]:
    """One number for each True of the mask, in order; 0.0 elsewhere."""
    following = iter(numbers)
    return [next(following) if on else 0.0 for on in mask]


def adaptive_lambda(actions: int, alpha: float) -> float:
    """`1 - 1 / (alpha * actions)`, cut to [0, 1]: a reward reaches back through a share of the answer, however long.

    Args:
        actions: how many the episode has; at most 1 / alpha of them give 0.
        alpha: above 0; the published value is 0.05.
    Source: VAPO (arXiv 2504.05118).
    """
    return max(0.0, 1.0 - 1.0 / (alpha * actions)) if actions else 0.0


def whiten(
    columns: Sequence[Sequence[float]],
    masks: Sequence[Sequence[bool]],
    *,
    shift_mean: bool = True,
    bessel: bool = False,
) -> list[list[float]]:
    """Columns of a whole step with variance 1 over all their action tokens together.

    Args:
        columns: numbers, one per token.
        masks: True where the policy chose the token.
        shift_mean: whether the mean becomes 0, as advantages want it, or stays, as rewards do.
        bessel: divide by the count less one in the variance.
    Returns:
        Columns in the same order; 0.0 at tokens not chosen, whatever stood there. EPSILON is added to the variance.
    """
    mean, variance = moments([number for line, on in zip(columns, masks, strict=True) for number in compress(line, on)])
    count = sum(map(sum, masks))
    if bessel:
        variance *= count / max(1, count - 1)
    scale, kept = 1.0 / sqrt(variance + EPSILON), 0.0 if shift_mean else mean
    return [
        [(number - mean) * scale + kept if chosen else 0.0 for number, chosen in zip(line, on, strict=True)]
        for line, on in zip(columns, masks, strict=True)
    ]


def explained_variance(targets: Sequence[float], values: Sequence[float]) -> float | None:
    """`1 - Var(targets - values) / Var(targets)`: 1 for a perfect critic, 0 for a constant, below 0 for a harmful one.

    None where the targets do not vary, so that nothing can be explained.
    """
    _, variance = moments(targets)
    if variance <= NO_VARIANCE:
        return None
    _, left = moments([target - value for target, value in zip(targets, values, strict=True)])
    return 1.0 - left / variance


def moments(numbers: Sequence[float]) -> tuple[float, float]:
    """Mean and biased variance, in two passes; 0.0 and 0.0 of nothing."""
    if not numbers:
        return 0.0, 0.0
    mean = sum(numbers) / len(numbers)
    return mean, sum((number - mean) * (number - mean) for number in numbers) / len(numbers)


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
