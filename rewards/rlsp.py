"""Correctness and exploration, scored apart and added so that every right answer outranks every wrong one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llmrl.plugins import build
from llmrl.rewards.behaviours import counts
from llmrl.scoring.manager import GradingPool, GroupScorer
from llmrl.scoring.trl_functions import TrainerState
from llmrl.scoring.wrapped import lifted, right, tokens
from llmrl.types import Score, Trajectory

Explore = Literal["length", "strategies"] | Mapping[str, Any]
LAST = 1 / 3  # of the steps, over which annealing takes exploration away


@dataclass(frozen=True, kw_only=True)
class RLSP:
    """Reward `weight * correct + (1 - weight) * explore`, both between 0 and 1 (after arXiv 2502.06773).

    `explore` is `length`: 1 - exp(-tokens / tau); or `strategies`: the share of `cap` distinct behaviours that the
    wording shows (those of the reward `behaviours`); or a reward of one's own, such as a judge of effort:
    {name: my_package.judge:Effort}. With a weight above 0.5 every right answer outranks every wrong one. Where the
    judge fails there is no value, never a neutral one. Parts: `correct` and `explore`, the two channels.

    `form: released` is the reward of the authors' code, for comparison ONLY: it teaches long wrong answers. It is 1 if
    right, 0 if wrong, -0.5 without an answer, minus `penalty` / L, L being the characters before the first box over 4;
    with a judge, `weight` of that and the rest of the grade. The penalty knows no bound: at 1000, a wrong answer after
    4,000 tokens (-0.25) beats a right one after 400 (-1.5). Their 0.5 for a failed judge and 0.0 for empty reasoning
    are not kept: the first has no value here, the second counts as one character.

    Raises:
        RewardError: while it scores: the inner reward gives no verdict.
    """

    of: Mapping[str, Any] = field(
        default_factory=lambda: {"name": "math_verify"}, hash=False
    )  # who judges right and wrong
    explore: Explore = field(default="length", hash=False)
    weight: float = 0.8  # of correctness; above 0.5
    tau: float = 1000.0  # tokens after which the length has earned 63 % of its share
    cap: int = 4  # distinct behaviours that earn the whole share, of four
    anneal: bool = False  # take the weight of exploration to 0 over the last third of the run's steps
    form: Literal["bounded", "released"] = "bounded"
    penalty: float = 0.0  # for form released: C, 0 or 1000

    def __post_init__(self) -> None:
        build("reward", self.of, "of")
        if isinstance(self.explore, Mapping):
            build("reward", self.explore, "explore")
        if not 0.5 < self.weight <= 1.0:
            raise ValueError(
                f"weight {self.weight}: expected above 0.5 and at most 1; at or below, a long wrong answer may beat a "
                "right one"
            )
        if self.tau <= 0 or not 1 <= self.cap <= 4 or self.penalty < 0:
            raise ValueError(
                f"tau {self.tau}, cap {self.cap}, penalty {self.penalty}: expected above 0, 1 to 4, and 0 up"
            )
        if self.penalty and self.form != "released":
            raise ValueError("penalty is of form released alone")
        if self.form == "released" and (self.anneal or self.explore == "strategies"):
            raise ValueError("form released knows neither annealing nor strategies; its explore is length or a judge")

    def as_group_reward(self, pool: GradingPool) -> Explored:
        """Make the group reward: both channels at once."""
        judge = lifted(self.explore, pool, "explore") if isinstance(self.explore, Mapping) else None
        return Explored(self, lifted(self.of, pool, "of"), judge, pool.trainer_state)

    def weight_at(self, state: TrainerState) -> float:
        """Weight of correctness: from `weight` to 1 over the last third of the run if annealed, else `weight`."""
        left = (state.max_steps - state.global_step) / state.max_steps if state.max_steps else 1.0
        return 1.0 - (1.0 - self.weight) * min(1.0, left / LAST) if self.anneal else self.weight

    def bounded(self, correct: bool, explore: float, weight: float) -> float:
        """Mixed reward, 0 to 1."""
        return weight * correct + (1.0 - weight) * explore

    def released(self, score: Score, text: str, grade: float | None) -> float:
        """Reward of the authors' code; a grade only where there is a judge."""
        box = text.find("\\boxed")
        base = 1.0 if score.correct else 0.0 if box >= 0 else -0.5
        base -= self.penalty / (max(1, box if box >= 0 else len(text)) / 4)
        return base if grade is None else self.weight * base + (1 - self.weight) * grade


@dataclass
class Explored:
    """Scores with the verifier and the judge, if there is one, at once."""

    options: RLSP
    inner: GroupScorer
    judge: GroupScorer | None
    state: TrainerState

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        given, grades = await asyncio.gather(self.inner.score(group), self._grades(group))
        return [self._mixed(t, s, g) for t, s, g in zip(group, given, grades, strict=True)]

    def latencies(self) -> dict[str, list[float]]:
        """Latencies of both channels."""
        return self.inner.latencies() | (self.judge.latencies() if self.judge else {})

    async def _grades(self, group: Sequence[Trajectory]) -> list[Score]:
        if self.judge is not None:
            return [_graded(one, score) for one, score in zip(group, await self.judge.score(group), strict=True)]
        if self.options.explore == "length":
            return [Score(1.0 - math.exp(-tokens(one) / self.options.tau)) for one in group]
        return [Score(min(1.0, sum(map(bool, counts(one.text).values())) / self.options.cap)) for one in group]

    def _mixed(self, trajectory: Trajectory, score: Score, grade: Score) -> Score:
        if score.value is None:
            return replace(score, parts={**score.parts, "correct": None, "explore": grade.value})
        correct = right(score, "rlsp", "of")
        parts = {**score.parts, "correct": float(correct), "explore": grade.value}
        if grade.value is None:
            return replace(score, value=None, verdict=grade.verdict or "error", parts=parts, reason=grade.reason)
        if self.options.form == "released":
            value = self.options.released(score, trajectory.text, grade.value if self.judge else None)
        else:
            value = self.options.bounded(correct, grade.value, self.options.weight_at(self.state))
        return replace(score, value=value, parts=parts)


def _graded(trajectory: Trajectory, score: Score) -> Score:
    """Check that the judge's score is between 0 and 1; else an error without a value."""
    if score.value is None or 0.0 <= score.value <= 1.0:
        return score
    return Score(None, "error", reason=f"problem {trajectory.problem.id}: explore gave {score.value}; expected 0 to 1")


plugin = RLSP
