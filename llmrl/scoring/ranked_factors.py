"""Several reasons to prefer an answer, in an order of importance: rewards, or parts of their scores."""

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
    """One reason: `{name: length, sign: -1, delta_mult: 0.5}`."""

    name: str  # as logs call it; a reward of that name, unless `of` says which
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
        """Whether its threshold depends on a calibration."""
        return self.threshold is None and self.delta_mult > 0

    def level(self, deviation: float) -> Level:
        """The question that it asks, given its standard deviation; one that it does not need does not matter."""
        return Level(self.sign, self.delta_mult * deviation if self.threshold is None else self.threshold)

    def reads(self, score: Score) -> float | None:
        """Its number in a score; None where that could not be judged, or has no such part."""
        value = score.value if self.part is None else score.parts.get(self.part)
        return value if value is not None and math.isfinite(value) else None


def check(factors: Sequence[Factor]) -> None:
    """Whether they can be an order of importance.

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
    """What the factors say of one answer."""

    scores: Sequence[Score]  # one of each factor
    row: Sequence[float] | None  # their numbers; None where one could not be read
    reason: str = ""  # why not

    @property
    def judge(self) -> Score:
        """The score of the first factor that judges right and wrong; an empty one where none does."""
        return next((score for score in self.scores if score.verdict is not None), Score(None))


@dataclass
class Panel:
    """All factors, ready to measure."""

    factors: Sequence[Factor]
    rewards: Sequence[GroupScorer]

    async def measure(self, group: Sequence[Trajectory]) -> list[FactorScores]:
        """What they say of each answer. Rewards that several factors share are asked once."""
        distinct = {id(reward): reward for reward in self.rewards}
        columns = dict(zip(distinct, await asyncio.gather(*(r.score(group) for r in distinct.values())), strict=True))
        return [
            self._measured(one, [columns[id(reward)][place] for reward in self.rewards])
            for place, one in enumerate(group)
        ]

    def latencies(self) -> dict[str, list[float]]:
        """Those of all rewards."""
        return {name: seconds for reward in self.rewards for name, seconds in reward.latencies().items()}

    def _measured(self, one: Trajectory, scores: Sequence[Score]) -> FactorScores:
        row: list[float] = []
        for factor, score in zip(self.factors, scores, strict=True):
            number = factor.reads(score)
            if number is None:
                missing = factor.part is not None and factor.part not in score.parts
                found = f"no part {factor.part!r} among {', '.join(score.parts) or 'none'}; " if missing else ""
                said = score.reason.removeprefix(f"problem {one.problem.id}: ") or "no value"
                return FactorScores(scores, None, f"problem {one.problem.id}: factor {factor.name}: {found}{said}")
            row.append(number)
        return FactorScores(scores, row)


def lifted(factors: Sequence[Factor], pool: GradingPool) -> Panel:
    """The factors with their rewards built; equal rewards are one."""
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
    """The questions of the tree.

    Args:
        frozen: standard deviations by name, from a calibration; None where no factor needs one.
    Raises:
        DataError: a factor needs a deviation that is not there.
    """
    for factor in factors:
        if factor.needs_deviation and factor.name not in (frozen or {}):
            found = ", ".join(frozen or ()) or "none"
            raise DataError(
                f"factor {factor.name}: its delta_mult {factor.delta_mult:g} is of a standard deviation that is not "
                f"known; known: {found}. Name the calibration that `llmrl data heron` wrote, or give a threshold"
            )
    return [factor.level((frozen or {}).get(factor.name, 0.0)) for factor in factors]


def described(factors: Sequence[Factor]) -> list[dict[str, Any]]:
    """Plain values, to write down and to compare."""
    return [asdict(one) for one in factors]
