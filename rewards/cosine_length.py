"""Correctness shaped by length: shorter right answers and longer wrong answers get more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmrl.plugins import build
from llmrl.recipe.ranges import Count, Whole
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.wrapped import Shaped, lifted, right, tokens
from llmrl.types import Score, Trajectory


@dataclass(frozen=True, kw_only=True)
class CosineLength:
    """Half a cosine over the length between two ends, for right and for wrong answers (arXiv 2502.03373, section 4).

    With n tokens in the last completion, L the `max_length` and (a, b) the ends at 0 and at L: b + (a - b) / 2 *
    (1 + cos(pi n / L)). An answer of L - `margin` tokens or more gets `exceed`, right or wrong. The verdict is
    that of the inner reward; its value is not used. Parts: `correct`, `exceeded`.

    Raises:
        RewardError: while it scores: the inner reward gives no verdict.
    """

    max_length: Count  # tokens of the longest answer; the release took 14336 of a context of 16384
    of: Mapping[str, Any] = field(
        default_factory=lambda: {"name": "math_verify"}, hash=False
    )  # who judges right and wrong
    correct_shortest: float = 2.0
    correct_longest: float = 1.0
    wrong_shortest: float = -10.0
    wrong_longest: float = 0.0
    exceed: float = -10.0  # for an answer that reaches the limit
    margin: Whole = 16  # tokens before max_length from which it counts as filled

    def __post_init__(self) -> None:
        build("reward", self.of, "of")
        if not 0 <= self.margin < self.max_length:
            raise ValueError(f"margin {self.margin}, max_length {self.max_length}: expected 0 <= margin < max_length")
        wrong = max(self.wrong_shortest, self.wrong_longest, self.exceed)
        if wrong > 0:
            raise ValueError(
                f"wrong_shortest {self.wrong_shortest}, wrong_longest {self.wrong_longest}, exceed {self.exceed}: "
                "expected at most 0, or long wrong answers would be paid"
            )
        if min(self.correct_shortest, self.correct_longest) <= wrong:
            raise ValueError(
                f"correct_shortest {self.correct_shortest}, correct_longest {self.correct_longest}: expected above "
                f"every wrong value, of which the largest is {wrong}"
            )

    def value(self, correct: bool, length: int) -> float:
        """Reward of an answer of so many tokens."""
        if self.exceeded(length):
            return self.exceed
        start, end = (
            (self.correct_shortest, self.correct_longest) if correct else (self.wrong_shortest, self.wrong_longest)
        )
        return half_cosine(start, end, length / self.max_length)

    def exceeded(self, length: int) -> bool:
        """Tell whether an answer reaches `max_length` less `margin`."""
        return length >= self.max_length - self.margin

    def as_group_reward(self, pool: GradingPool) -> Shaped:
        """Make the group reward around the inner one."""
        return Shaped(lifted(self.of, pool, "of"), self._shape)

    def _shape(self, trajectory: Trajectory, score: Score) -> Score:
        correct, length = right(score, "cosine_length", "of"), tokens(trajectory)
        parts = {"correct": float(correct), "exceeded": float(self.exceeded(length))}
        reason = f"{length} tokens of {self.max_length}; {score.reason}"
        return replace(score, value=self.value(correct, length), parts={**score.parts, **parts}, reason=reason)


def half_cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` at a share of 0 to `end` at 1; beyond, it turns back."""
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * share))


plugin = CosineLength
