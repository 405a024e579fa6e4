"""Shaping by sub-goals that are reached in order: plain numbers."""

from __future__ import annotations


def bonus(before: int, after: int, goals: int, alpha: float, gamma: float = 1.0) -> float:
    """Difference of the potential alpha * k / goals over a move: gamma * potential(after) - potential(before).

    Args:
        before, after: sub-goals reached in order, 0 to `goals`.
        alpha: potential of all of them: with gamma 1 the bonuses of an episode sum to at most that.
    Source: Ng, Harada and Russell 1999 for the form; sub-goals as in Words as Beacons, whose numbers are others.
    """
    return alpha * (gamma * after - before) / goals
