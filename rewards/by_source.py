"""A reward for each source of problems, so that noisy references are judged otherwise than clean ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmrl.errors import RewardError
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, GroupScorer
from llmrl.scoring.reserved import require_free
from llmrl.scoring.wrapped import lifted
from llmrl.types import Problem, Score, Trajectory


@dataclass(frozen=True, kw_only=True)
class BySource:
    """Reward by `problem.info["source"]`: `sources: {clean: {name: numeric}, web: {name: math_verify}}`.

    The dataset `mixture` sets the source. Part: `<source>`, the value, so that each source has its own curve.

    Raises:
        RewardError: while it scores: a problem's source is none of these.
    """

    sources: Mapping[str, Mapping[str, Any]] = field(hash=False)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty; expected a reward for each, such as {clean: {name: numeric}}")
        for name, spec in self.sources.items():
            build("reward", spec, f"sources.{name}")

    def as_group_reward(self, pool: GradingPool) -> Sorted:
        """Make the group reward, with a group reward for every source."""
        return Sorted({name: lifted(spec, pool, f"sources.{name}") for name, spec in self.sources.items()})


@dataclass
class Sorted:
    """Scores each trajectory by the reward of its source."""

    rewards: Mapping[str, GroupScorer]

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        sources = [self._source(trajectory) for trajectory in group]
        names = list(dict.fromkeys(sources))
        parts = [[one for one, source in zip(group, sources, strict=True) if source == name] for name in names]
        scored = await asyncio.gather(
            *(self.rewards[name].score(part) for name, part in zip(names, parts, strict=True))
        )
        given = {name: iter(scores) for name, scores in zip(names, scored, strict=True)}
        return [_named(next(given[source]), source) for source in sources]

    def latencies(self) -> dict[str, list[float]]:
        """Latencies by source and reward."""
        return {f"{s}/{n}": seconds for s, reward in self.rewards.items() for n, seconds in reward.latencies().items()}

    def require_free(self, problem: Problem) -> None:
        """Refuse a problem with a column that the reward of its source fills itself.

        Raises:
            DataError: names the problem and the column.
        """
        if (reward := self.rewards.get(str(problem.info.get("source")))) is not None:
            require_free(reward, [problem])

    def _source(self, trajectory: Trajectory) -> str:
        source = trajectory.problem.info.get("source")
        if source not in self.rewards:
            raise RewardError(
                f"problem {trajectory.problem.id}: its source is {source!r}; by_source has rewards for "
                f"{', '.join(self.rewards)}; use the dataset mixture, or a column `source`"
            )
        return str(source)


def _named(score: Score, source: str) -> Score:
    return replace(score, parts={**score.parts, source: score.value})


plugin = BySource
