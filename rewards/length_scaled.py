"""Correctness shaped by length with one risk factor: the simpler alternative to `cosine_length`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmrl.plugins import build
from llmrl.recipe.ranges import Count, Share
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.wrapped import Shaped, lifted, right, tokens
from llmrl.types import Score, Trajectory


@dataclass(frozen=True, kw_only=True)
class LengthScaled:
    """Reward (k + (1 - k) c) (1 - c) if right, c - 1 if wrong, with c the length over `max_length`, at most 1.

    Right answers get 0 to 1 (`risk` is k, the reward of the shortest), wrong ones -1 to 0; at `max_length` both get 0.
    The verdict is that of the inner reward. From the code of arXiv 2502.03373.

    Raises:
        RewardError: while it scores: the inner reward gives no verdict.
    """

    max_length: Count  # tokens of the longest answer
    of: Mapping[str, Any] = field(
        default_factory=lambda: {"name": "math_verify"}, hash=False
    )  # who judges right and wrong
    risk: Share = 0.5  # below 0.5 a right answer is worth most at some length above 0

    def __post_init__(self) -> None:
        build("reward", self.of, "of")
        if self.max_length < 1:
            raise ValueError(f"max_length {self.max_length}: expected at least 1 token")

    def value(self, correct: bool, length: int) -> float:
        """Reward of an answer of so many tokens."""
        share = min(1.0, length / self.max_length)
        return (self.risk + (1.0 - self.risk) * share) * (1.0 - share) if correct else share - 1.0

    def as_group_reward(self, pool: GradingPool) -> Shaped:
        """Make the group reward around the inner one."""
        return Shaped(lifted(self.of, pool, "of"), self._shape)

    def _shape(self, trajectory: Trajectory, score: Score) -> Score:
        correct, length = right(score, "length_scaled", "of"), tokens(trajectory)
        reason = f"{length} tokens of {self.max_length}; {score.reason}"
        parts = {**score.parts, "correct": float(correct)}
        return replace(score, value=self.value(correct, length), parts=parts, reason=reason)


plugin = LengthScaled
