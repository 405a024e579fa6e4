"""Easier beginnings of a web task: parts that are done already, parts that are not asked for, and a potential.

Source: Gur et al. 2019, Learning to Navigate the Web (arXiv 1812.09195), as far as it carries over from Q-learning to a
policy that writes: its network and its instruction writer do not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def target_fields(count: int, progress: float) -> int:
    """Number of a task's `count` fields that are asked for at `progress` 0 to 1: `max(1, ceil(progress * count))`."""
    return max(1, math.ceil(round(progress * count, 9)))


def warm_start(fields: Sequence[T], progress: float, seed: str) -> list[T]:
    """Fields that are filled before the policy begins: each with probability `1 - progress`, the same for a seed."""
    chance = random.Random(f"warm start/{seed}")
    return [field for field in fields if chance.random() < 1 - progress]


def shaped(before: float, after: float, gamma: float) -> float:
    """Reward for a step between two potentials, `gamma * after - before`, which changes no optimal policy.

    Source: Ng, Harada and Russell 1999. Along an episode the discounted sum is `gamma^T * last - first`.
    """
    return gamma * after - before
