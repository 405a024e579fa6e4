"""Agreement and drift between proxy reward and gold reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import correlation, fmean, variance

ALARM = 2.0
"""Standard errors by which both must have moved. Two rewards that are independent noise pass it in less than
one of 500 windows of 20 (tests/unit/ops/test_divergence.py), and rewards that agree more rarely still."""
MOST = 99.0
"""Bound of a rise, which is reached where a half of the window does not vary at all."""
NEAR = 1e-12


@dataclass(frozen=True, slots=True)
class GradedTwice:
    """An episode's proxy reward and its gold reward."""

    proxy: float  # the training reward
    truth: float  # the gold reward
    proxy_right: bool | None = None  # None: that reward does not judge right and wrong
    truth_right: bool | None = None


def agreement(pairs: Sequence[GradedTwice]) -> float | None:
    """Share of episodes to which both rewards give the same verdict: right, or not.

    Where one of them gives no verdict: the share of pairs with different gold rewards which the proxy puts in the same
    order; a pair with equal proxies counts half. None where there is nothing to compare.
    """
    verdicts = [(p.proxy_right, p.truth_right) for p in pairs if None not in (p.proxy_right, p.truth_right)]
    if verdicts:
        return fmean(proxy == truth for proxy, truth in verdicts)
    signs = [
        math.copysign(1.0, a.truth - b.truth) * (a.proxy - b.proxy)
        for a, b in combinations(pairs, 2)
        if a.truth != b.truth
    ]
    return fmean(1.0 if sign > 0 else 0.5 if sign == 0 else 0.0 for sign in signs) if signs else None


def compared(pairs: Sequence[GradedTwice]) -> dict[str, float]:
    """A step's `audit/...`: both means, their agreement, and Pearson's correlation."""
    if not pairs:
        return {}
    proxy, truth = [pair.proxy for pair in pairs], [pair.truth for pair in pairs]
    metrics = {"audit/proxy_mean": fmean(proxy), "audit/true_mean": fmean(truth)}
    if (share := agreement(pairs)) is not None:
        metrics["audit/agreement"] = share
    if max(proxy) - min(proxy) > NEAR and max(truth) - min(truth) > NEAR:
        metrics["audit/correlation"] = correlation(proxy, truth)
    return metrics


def halves(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The older and the newer half; of an odd number without the one in the middle."""
    half = len(values) // 2
    return values[:half], values[len(values) - half :]


def rise(values: Sequence[float]) -> float:
    """Difference of means between the newer and the older half of the values, in standard errors.

    Args:
        values: at least four, the oldest first.
    Returns:
        Welch's t: the difference of the means over the root of the summed variances of the two means; 0.0 where the
        means are equal, and within 99 of it.
    """
    old, new = halves(values)
    gap = fmean(new) - fmean(old)
    if abs(gap) <= NEAR:
        return 0.0
    error = math.sqrt((variance(old) + variance(new)) / len(old))
    return max(-MOST, min(MOST, gap / error)) if error > 0 else math.copysign(MOST, gap)


def divergence(proxy: Sequence[float], truth: Sequence[float]) -> float:
    """The rise of the proxy or the fall of the gold reward, whichever is less, in standard errors.

    At most 0 where either moves the other way. Both are means of successive steps, at least four of each.
    """
    return min(rise(proxy), -rise(truth))
