"""A weighted sum of rewards; every part is logged."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrl.grading import Lifted, Pool, lift
from llmrl.plugins import build
from llmrl.rewards._dense import dense
from llmrl.types import Score, Trajectory

Part = float | Mapping[str, Any]


@dataclass(frozen=True)
class Mix:
    """The sum of weight times value over `parts`: `{numeric: 1.0, format: {weight: 0.1, pattern: ...}}`.

    A part is a reward by name, or `package.module:function`; a number is its weight, a mapping holds `weight` and the
    reward's own options. The weight is that of its dense rewards too. A part of weight 0 is only logged; what a part is
    itself made of is logged as `<part>/<name>`. The verdict is that of the first part that gives one. Where a part that
    weighs something cannot be judged, neither can the whole: `value` is None, and `reason` says which.
    """

    parts: Mapping[str, Part]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts is empty; expected at least one reward, such as {numeric: 1.0}")
        for name, part in self.parts.items():
            weight = part.get("weight") if isinstance(part, Mapping) else part
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise ValueError(f"parts.{name}: weight {weight!r}; expected a number")

    def lift(self, pool: Pool) -> MixedReward:
        """The group reward, with every part built and lifted."""
        weights: dict[str, float] = {}
        rewards: dict[str, Lifted] = {}
        for name, part in self.parts.items():
            options = dict(part) if isinstance(part, Mapping) else {"weight": part}
            weights[name] = float(options.pop("weight"))
            rewards[name] = lift(build("reward", {"name": name, **options}, f"reward.parts.{name}"), pool)
        return MixedReward(weights=weights, rewards=rewards)


@dataclass
class MixedReward:
    """Scores with every part at once."""

    weights: Mapping[str, float]
    rewards: Mapping[str, Lifted]

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        columns = await asyncio.gather(*(reward.score(group) for reward in self.rewards.values()))
        return [self._sum(dict(zip(self.rewards, row, strict=True))) for row in zip(*columns, strict=True)]

    def _sum(self, scores: Mapping[str, Score]) -> Score:
        missing = [n for n, score in scores.items() if score.value is None and self.weights[n] != 0]
        value = None if missing else sum(self.weights[n] * (s.value or 0.0) for n, s in scores.items())
        told = missing or [n for n, score in scores.items() if score.reason]
        failed = [scores[n].verdict for n in missing if scores[n].verdict is not None]
        telling = [s for n, s in scores.items() if s.value is not None or self.weights[n] != 0]
        verdicts = failed or [score.verdict for score in telling if score.verdict is not None]
        parts = {name: score.value for name, score in scores.items()}
        parts |= {f"{name}/{inner}": value for name, score in scores.items() for inner, value in score.parts.items()}
        total = Score(
            value,
            verdicts[0] if verdicts else None,
            parts=parts,
            reason="; ".join(f"{name}: {scores[name].reason or 'no value'}" for name in told),
        )
        return dense(total, [(self.weights[name], score) for name, score in scores.items()])

    def latencies(self) -> dict[str, list[float]]:
        """By part: the seconds each item took since the last call; starts anew."""
        return {name: seconds for reward in self.rewards.values() for name, seconds in reward.latencies().items()}


plugin = Mix
