"""A weighted sum of rewards; every part is logged."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrl.plugins import build
from llmrl.scoring.combine import dense, on_last
from llmrl.scoring.conditions import Gate, gate, of
from llmrl.scoring.manager import GradingPool, GroupScorer, as_group_reward, usable
from llmrl.scoring.wrapped import tokens
from llmrl.types import Score, Trajectory

Part = float | Mapping[str, Any]
CHANNELS = ("reward", "token_rewards")  # where a part's value goes; an algorithm may discount them apart


@dataclass(frozen=True)
class Mix:
    """The sum of weight times value over `parts`: `{numeric: 1.0, format: {weight: 0.1, if: numeric >= 1}}`.

    A part is a reward by name, or `package.module:function`; a number is its weight, a mapping holds `weight` and the
    reward's own options, and `name` where the part is not called like its reward. The weight is that of its dense
    rewards too. A part of weight 0 is only logged; the parts of a part are logged as `<part>/<name>`. The verdict is
    that of the first part that gives one. Where a part with a weight cannot be judged, neither can the sum: `value` is
    None, and `reason` names the part. A part that abstains, for it is of other problems, is left out; where all do, so
    does the sum.

    A part with `if` counts only where another part's value, before its weight, is so high; elsewhere it has weight 0.
    `<part>/gated` is the value that counts. If the other part cannot be judged, neither can the sum.

    `channel: token_rewards` puts a part's weighted value on the last token of the answer, beside the dense rewards, so
    that it is discounted like them: see docs/algorithms/ppo.md.
    """

    parts: Mapping[str, Part]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts is empty; expected at least one reward, such as {numeric: 1.0}")
        for name, part in self.parts.items():
            weight = part.get("weight") if isinstance(part, Mapping) else part
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise ValueError(f"parts.{name}: weight {weight!r}; expected a number")
            channel = part.get("channel", CHANNELS[0]) if isinstance(part, Mapping) else CHANNELS[0]
            if channel not in CHANNELS:
                raise ValueError(f"parts.{name}: channel {channel!r}; expected {' or '.join(CHANNELS)}")
        _ = self._gates
        for name, part in self.parts.items():
            named = part.get("name", name) if isinstance(part, Mapping) else name
            if ":" not in str(named):  # somebody else's module is imported when the reward is made ready
                self._built(name)

    def _built(self, name: str) -> Any:
        """The reward of a part.

        Raises:
            RecipeError: there is none of that name, or it refuses its options.
        """
        part = self.parts[name]
        given = {"name": name, **(part if isinstance(part, Mapping) else {})}
        options = {key: value for key, value in given.items() if key not in ("weight", "if", "channel")}
        return build("reward", options, f"reward.parts.{name}")

    @property
    def _gates(self) -> dict[str, Gate]:
        conditions = {
            name: part["if"] for name, part in self.parts.items() if isinstance(part, Mapping) and "if" in part
        }
        return {name: gate(condition, self.parts, f"parts.{name}") for name, condition in conditions.items()}

    def as_group_reward(self, pool: GradingPool) -> MixedReward:
        """Make the group reward, with a group reward for every part."""
        weights: dict[str, float] = {}
        rewards: dict[str, GroupScorer] = {}
        standing: list[str] = []
        for name, part in self.parts.items():
            options = part if isinstance(part, Mapping) else {"weight": part}
            standing += [name] if options.get("channel", CHANNELS[0]) == CHANNELS[1] else []
            weights[name] = float(options["weight"])
            rewards[name] = as_group_reward(self._built(name), pool)
        return MixedReward(weights, rewards, self._gates, standing)


@dataclass
class MixedReward:
    """Scores a group by every part at once."""

    weights: Mapping[str, float]
    rewards: Mapping[str, GroupScorer]
    gates: Mapping[str, Gate] = field(default_factory=dict)
    standing: Sequence[str] = ()  # parts whose value is a dense reward, on the last token

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        columns = await asyncio.gather(*(reward.score(group) for reward in self.rewards.values()))
        return [
            usable(self._sum(dict(zip(self.rewards, row, strict=True)), tokens(trajectory)), "mix", trajectory.problem)
            for trajectory, row in zip(group, zip(*columns, strict=True), strict=True)
        ]

    def _sum(self, scores: Mapping[str, Score], length: int) -> Score:
        parts = {name: score.value for name, score in scores.items()}
        parts |= {f"{name}/{inner}": value for name, score in scores.items() for inner, value in score.parts.items()}
        silent = {name for name, score in scores.items() if score.abstained}
        left = silent | {name for name in self.gates if self._asked(name) in silent}
        held = {name: False if name in left else asked.holds(parts) for name, asked in self.gates.items()}
        weights = {n: 0.0 if n in left or held.get(n) is False else weight for n, weight in self.weights.items()}
        heavy = [name for name, weight in self.weights.items() if weight != 0]
        abstained = bool(heavy) and left.issuperset(heavy)
        unsure = {self._asked(n): self.gates[n] for n, holds in held.items() if holds is None and weights[n] != 0}
        missing = [n for n, s in scores.items() if n in unsure or (s.value is None and weights[n] != 0)]
        paid = {n: on_last(s, length) if n in self.standing else s for n, s in scores.items()}
        value = None if missing or abstained else sum(weights[n] * (s.value or 0.0) for n, s in paid.items())
        told = missing or [n for n, score in scores.items() if score.reason]
        failed = [scores[n] for n in missing if scores[n].value is None]
        telling = [s for n, s in scores.items() if s.value is not None or weights[n] != 0]
        judge = next((score for score in (*failed, *telling) if score.verdict is not None), Score(None))
        gated = {n: parts[n] if holds else None if holds is None else 0.0 for n, holds in held.items()}
        total = Score(
            value,
            judge.verdict,
            parts=parts | {f"{name}/gated": counted for name, counted in gated.items()},
            reason="; ".join(f"{name}: {_why(scores[name], unsure.get(name))}" for name in told),
            answer=judge.answer,
            abstained=abstained,
        )
        return dense(total, [(weights[name], score) for name, score in paid.items()])

    def _asked(self, name: str) -> str:
        """Part that the condition of a part names."""
        return of(self.gates[name].part, self.rewards) or name

    def latencies(self) -> dict[str, list[float]]:
        """Return the seconds of each item since the last call, by part, and forget them."""
        taken = {name: reward.latencies() for name, reward in self.rewards.items()}
        return {
            name if len(inner) == 1 else f"{name}/{one}": seconds
            for name, inner in taken.items()
            for one, seconds in inner.items()
        }


def _why(score: Score, unsure: Gate | None) -> str:
    """Reason why a part has no value, or why its condition could not be evaluated."""
    if score.value is not None and unsure is not None:
        return f"it gave nothing for the condition {unsure}"
    return score.reason or "no value"


plugin = Mix
