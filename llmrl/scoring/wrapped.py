"""Rewards around another reward: the shared part of the shaping rewards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrl.errors import RewardError
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, GroupScorer, as_group_reward
from llmrl.types import Score, Trajectory

Spec = Mapping[str, Any]


def lifted(spec: Spec, pool: GradingPool, where: str) -> GroupScorer:
    """Build the reward that a spec names, ready to score.

    Raises:
        RecipeError, RewardError: there is no such reward.
    """
    return as_group_reward(build("reward", spec, f"reward.{where}"), pool)


def right(score: Score, name: str, where: str) -> bool:
    """Tell whether the inner reward's verdict is `correct`.

    Raises:
        RewardError: it gives no verdict, so that there is nothing to shape.
    """
    if score.verdict is None:
        raise RewardError(
            f"{name}: the reward in {where} judges no right and wrong; expected one with a verdict, such as "
            "{name: math_verify}"
        )
    return score.correct is True


def tokens(trajectory: Trajectory) -> int:
    """Number of tokens of the last completion, the end of sequence included; 0 without a completion."""
    return 0 if trajectory.last is None else len(trajectory.last.completion.token_ids)


@dataclass
class Shaped:
    """Reward whose scores are those of an inner reward, each shaped by its trajectory.

    A score without a value stays as it is: an answer that could not be judged gets no number.
    """

    inner: GroupScorer
    shape: Callable[[Trajectory, Score], Score]

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        scores = await self.inner.score(group)
        return [
            score if score.value is None else self.shape(trajectory, score)
            for trajectory, score in zip(group, scores, strict=True)
        ]

    def latencies(self) -> dict[str, list[float]]:
        """Latencies of the inner reward."""
        return self.inner.latencies()
