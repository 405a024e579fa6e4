"""Formulas of tree search: which child to try next, and what its parent learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt


def puct(
    q: Sequence[float], visits: Sequence[int], priors: Sequence[float], parent_visits: int, c_puct: float = 1.5
) -> list[float]:
    """Scores of children: `q_i + c p_i sqrt(N) / (1 + n_i)`.

    Args:
        q: mean value of each.
        visits: n_i of each.
        priors: p_i of each; they need not sum to 1.
        parent_visits: N.
        c_puct: c, how much a child that was tried less counts for more.
    Source: the plan search of critical plan step learning (arXiv 2409.08642), after AlphaGo Zero.
    """
    return [
        value + c_puct * prior * sqrt(parent_visits) / (1 + n)
        for value, n, prior in zip(q, visits, priors, strict=True)
    ]


def uct_x1(
    q: Sequence[float],
    visits: Sequence[int],
    parent_visits: int,
    reward_range: tuple[float, float],
    c1: float = 1.25,
    c2: float = 19652.0,
) -> list[float]:
    """Scores of children: `(q_i - low) / (high - low) + sqrt(N - 1) / (1 + n_i) (c1 + ln((N + c2) / c2))`.

    Args:
        q, visits: of each child.
        parent_visits: N; below 1 counts as 1.
        reward_range: low and high, between which every q lies.
    Source: x1 of the reasoning blueprint (arXiv 2501.11223), after MuZero.
    """
    low, high = reward_range
    reach = sqrt(max(parent_visits - 1, 0)) * (c1 + log((parent_visits + c2) / c2))
    return [(value - low) / (high - low) + reach / (1 + n) for value, n in zip(q, visits, strict=True)]


def backed_up_x1(
    old: float, q: Sequence[float], visits: Sequence[int], gamma: float = 0.96, learning_rate: float = 1.0
) -> float:
    """Value of a parent: `(1 - lr) old + lr gamma sum_i n_i q_i / sum_i n_i`.

    Args:
        old: its value before.
        q, visits: of its children, which have a visit or more.
    """
    mean = sum(n * value for value, n in zip(q, visits, strict=True)) / sum(visits)
    return (1 - learning_rate) * old + learning_rate * gamma * mean


def borda_by_closure(wins: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """Rank answers by pairwise wins: the transitive closure of the wins, and how many answers each then beats.

    Args:
        wins: (M, M), 1 where answer i beat answer j.
    Source: LLaMA-Berry (arXiv 2410.02884).
    """
    count = len(wins)
    closed = [[bool(win) for win in row] for row in wins]
    for via in range(count):
        for i in range(count):
            for j in range(count):
                closed[i][j] |= closed[i][via] and closed[via][j]
    beaten = [sum(closed[i][j] for j in range(count) if j != i) for i in range(count)]
    return [[int(win) for win in row] for row in closed], beaten
