"""Factors by which answers are preferred, in an order of importance: rewards, or parts of their scores."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from llmrl.errors import DataError
from llmrl.ops.heron import Level
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, GroupScorer, as_group_reward
from llmrl.types import Score, Trajectory


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A factor of the preference: `{name: length, sign: -1, delta_mult: 0.5}`."""

    name: str  # in the logs; a reward of that name, unless `of` names another
    of: Mapping[str, Any] | None = None  # a reward and its options
    part: str | None = None  # one of its `Score.parts`; None: its value
    sign: Literal[1, -1] = 1  # -1: less is better
    delta_mult: float = 0.0  # a difference decides if it is larger than so many standard deviations of the calibration
    threshold: float | None = None  # or than this, in the factor's own unit, which needs no calibration

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # a misspelt key in a recipe is an error

    def __post_init__(self) -> None:
        if not self.name or not 0 <= self.delta_mult < math.inf or not 0 <= (self.threshold or 0) < math.inf:
            raise ValueError(f"factor {self.name!r}: expected a name, and delta_mult and threshold of at least 0")
        if self.threshold is not None and self.delta_mult:
            raise ValueError(f"factor {self.name}: delta_mult and threshold are two ways to say the same; choose one")

    @property
    def needs_deviation(self) -> bool:
        """Tell whether the threshold depends on a calibration."""
        return self.threshold is None and self.delta_mult > 0

    def level(self, deviation: float) -> Level:
        """Level of the decision tree, given the factor's standard deviation, which a fixed threshold ignores."""
        return Level(self.sign, self.delta_mult * deviation if self.threshold is None else self.threshold)

    def reads(self, score: Score) -> float | None:
        """The factor's number in a score; None where the score has no value, or no such part."""
        value = score.value if self.part is None else score.parts.get(self.part)
        return value if value is not None and math.isfinite(value) else None


def check(factors: Sequence[Factor]) -> None:
    """Refuse factors that cannot be an order of importance.

    Raises:
        ValueError: there is none, or two have one name.
        RecipeError: there is no such reward.
    """
    names = [factor.name for factor in factors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"factors: found {', '.join(names) or 'none'}; expected at least one, each with its own name")
    for factor in factors:
        build("reward", factor.of or factor.name, f"factor {factor.name}")


@dataclass(frozen=True, slots=True)
class FactorScores:
    """Scores of one answer by every factor."""

    scores: Sequence[Score]  # one of each factor
    row: Sequence[float] | None  # their numbers; None where one could not be read
    reason: str = ""  # why not

    @property
    def judge(self) -> Score:
        """Score of the first factor that gives a verdict; an empty score where none does."""
        return next((score for score in self.scores if score.verdict is not None), Score(None))


@dataclass
class Panel:
    """The factors with their rewards, ready to measure."""

    factors: Sequence[Factor]
    rewards: Sequence[GroupScorer]

    async def measure(self, group: Sequence[Trajectory]) -> list[FactorScores]:
        """Score each answer by every factor. A reward that several factors share runs once."""
        distinct = {id(reward): reward for reward in self.rewards}
        columns = dict(zip(distinct, await asyncio.gather(*(r.score(group) for r in distinct.values())), strict=True))
        return [
            self._measured(trajectory, [columns[id(reward)][place] for reward in self.rewards])
            for place, trajectory in enumerate(group)
        ]

    def latencies(self) -> dict[str, list[float]]:
        """Latencies of all rewards, by name."""
        return {name: seconds for reward in self.rewards for name, seconds in reward.latencies().items()}

    def _measured(self, trajectory: Trajectory, scores: Sequence[Score]) -> FactorScores:
        row: list[float] = []
        for factor, score in zip(self.factors, scores, strict=True):
            number = factor.reads(score)
            if number is None:
                missing = factor.part is not None and factor.part not in score.parts
                known = f"no part {factor.part!r} among {', '.join(score.parts) or 'none'}; " if missing else ""
                where = f"problem {trajectory.problem.id}: "
                reason = score.reason.removeprefix(where) or "no value"
                return FactorScores(scores, None, f"{where}factor {factor.name}: {known}{reason}")
            row.append(number)
        return FactorScores(scores, row)


def lifted(factors: Sequence[Factor], pool: GradingPool) -> Panel:
    """Build the rewards of the factors; equal specs share one reward."""
    made: dict[str, GroupScorer] = {}
    rewards = []
    for factor in factors:
        spec = factor.of or {"name": factor.name}
        key = repr(sorted(spec.items(), key=lambda item: item[0]))
        if key not in made:
            made[key] = as_group_reward(build("reward", spec, f"factor {factor.name}"), pool)
        rewards.append(made[key])
    return Panel(factors, rewards)


def levels(factors: Sequence[Factor], frozen: Mapping[str, float] | None) -> list[Level]:
    """Levels of the decision tree.

    Args:
        frozen: standard deviations by name, from a calibration; None where no factor needs one.
    Raises:
        DataError: a factor needs a deviation that is not there.
    """
    for factor in factors:
        if factor.needs_deviation and factor.name not in (frozen or {}):
            known = ", ".join(frozen or ()) or "none"
            raise DataError(
                f"factor {factor.name}: its delta_mult {factor.delta_mult:g} is of a standard deviation that is not "
                f"known; known: {known}. Name the calibration that `llmrl data heron` wrote, or give a threshold"
            )
    return [factor.level((frozen or {}).get(factor.name, 0.0)) for factor in factors]


def described(factors: Sequence[Factor]) -> list[dict[str, Any]]:
    """Convert factors to plain values, to write down and to compare."""
    return [asdict(factor) for factor in factors]
