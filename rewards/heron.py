"""Rewards by comparisons with siblings, decided by factors in an order of importance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmrl.datafiles import json_text
from llmrl.errors import DataError
from llmrl.ops.heron import Level, borda, cyclic_share, decisions
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.ranked_factors import Factor, FactorScores, Panel, check, levels, lifted
from llmrl.types import Score, Trajectory


@dataclass(frozen=True)
class Heron:
    """Share of its group that an answer beats, 0 to 1, half a win where no factor decides (Borda's count).

    `factors` are rewards in an order of importance, `[{name: numeric}, {name: length, sign: -1, threshold: 4}]`: two
    answers are compared by the first of them in which they differ by more than its threshold. Only the order matters:
    no weight is to be tuned, and a factor may be rescaled. `delta_mult` makes a threshold of a standard deviation,
    which `calibration` freezes: the file that `llmrl data heron` writes.

    Parts: each factor's number by its name; `level/<name>`, the share of the answer's comparisons that it decided;
    `undecided`; `cycles`, the share of the group's decided triples in which each beats the next. The verdict is that of
    the first factor that gives one. An answer that a factor cannot judge has no value and is not compared; nor has an
    answer that is alone.

    Source: HERON, Bukharin et al. 2024 (arXiv 2309.02632); the tournament within a group is our own use of its tree.
    """

    factors: Sequence[Factor]
    calibration: str | None = None  # a file; needed where a factor has a delta_mult

    def __post_init__(self) -> None:
        check(self.factors)
        if self.calibration is None:
            levels(self.factors, None)

    def as_group_reward(self, pool: GradingPool) -> Tournament:
        """Make the group reward, with every factor built.

        Raises:
            DataError: the calibration cannot be read, or lacks a factor.
        """
        frozen = None if self.calibration is None else deviations(Path(self.calibration))
        return Tournament(lifted(self.factors, pool), levels(self.factors, frozen))


@dataclass
class Tournament:
    """Compares every pair of answers within a group."""

    panel: Panel
    levels: Sequence[Level]

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        measured = await self.panel.measure(group)
        rows = [one.row for one in measured if one.row is not None]
        if len(rows) < 2:
            return [self._alone(one, trajectory) for one, trajectory in zip(measured, group, strict=True)]
        decided = decisions(rows, self.levels)
        cycles = cyclic_share(rows, self.levels)
        values = iter(enumerate(borda(len(rows), decided)))
        scores = []
        for one, trajectory in zip(measured, group, strict=True):
            if one.row is None:
                scores.append(self._alone(one, trajectory))
                continue
            place, value = next(values)
            by = [pair.level for pair in decided if place in (pair.first, pair.second)]
            shares = {f"level/{f.name}": by.count(number) / len(by) for number, f in enumerate(self.panel.factors)}
            parts = {**self._numbers(one), **shares, "undecided": by.count(None) / len(by), "cycles": cycles}
            scores.append(Score(value, one.judge.verdict, parts, reason=self._told(one), answer=one.judge.answer))
        return scores

    def latencies(self) -> dict[str, list[float]]:
        """Latencies of the factors."""
        return self.panel.latencies()

    def _numbers(self, one: FactorScores) -> dict[str, float | None]:
        return {f.name: f.reads(score) for f, score in zip(self.panel.factors, one.scores, strict=True)}

    def _told(self, one: FactorScores) -> str:
        return "; ".join(
            f"{f.name}: {score.reason}" for f, score in zip(self.panel.factors, one.scores, strict=True) if score.reason
        )

    def _alone(self, one: FactorScores, trajectory: Trajectory) -> Score:
        if one.row is None:
            slow = any(score.verdict == "timeout" for score in one.scores)
            return Score(None, "timeout" if slow else "error", parts=self._numbers(one), reason=one.reason)
        reason = f"problem {trajectory.problem.id}: nobody in its group to compare it with"
        return Score(None, "error", parts=self._numbers(one), reason=reason)


def deviations(path: Path) -> dict[str, float]:
    """Read the standard deviations of a calibration, by factor.

    Raises:
        DataError: the file is no calibration.
    """
    try:
        found = json_text.parse(path.read_bytes(), str(path))
        return {str(name): float(entry["std"]) for name, entry in found["factors"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: no calibration ({type(error).__name__}: {error}); expected what `llmrl data heron` writes"
        ) from None


plugin = Heron
