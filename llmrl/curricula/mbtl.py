"""MBTL: trains on one family of problems at a time, the one from which the others gain most, by a Gaussian process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrl.datafiles.features import families, features
from llmrl.errors import DataError
from llmrl.ops.curriculum import smoothed, transfer_gain
from llmrl.ops.gaussian_process import predicted
from llmrl.recipe.ranges import Amount, Count, Positive, Share
from llmrl.samples import Array
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class Mbtl:
    """Model-based transfer learning (arXiv 2408.04498) over families: a stage each, the first in the middle."""

    family: str  # key of `Problem.info` that names a problem's family: level, subject, source
    random_share: Share = 0.2  # of the draws, over all problems: they measure the other families
    features: Sequence[str] = field(default=(), hash=False)  # of a family, means over its problems. None: `family`
    records: str | None = None  # a file of `llmrl eval --samples 16`, for the feature pass_rate
    stage_steps: Count = 20  # steps that are trained on one family
    beta: Amount = 1.0  # how much the uncertainty of what training would reach counts
    slope: Amount | None = None  # pass rate lost per unit of distance; None: fitted to what was measured
    noise: Positive = 0.1  # standard deviation of a measured pass rate
    half_life: Positive = 10.0  # groups after which an outcome counts half in a family's pass rate

    def __post_init__(self) -> None:
        if self.stage_steps < 1 or not 0 < self.random_share <= 1:
            raise ValueError("stage_steps must be at least 1, random_share above 0 and at most 1")
        if self.beta < 0 or not self.noise > 0 or not self.half_life > 0:
            raise ValueError("beta must be at least 0, noise and half_life above 0")

    def start(self, problems: Sequence[Problem]) -> Families:
        names, own = families(problems, self.family)
        if len(names) < 2:
            raise DataError(f"curriculum mbtl: all problems have {self.family} {names[0]!r}; expected several families")
        points = features(problems, self.features or [self.family], self.records)
        places = np.stack([points[own == number].mean(axis=0) for number in range(len(names))])
        return Families(self, own, places, middle(places))


@dataclass
class Families:
    """Pass rates of the families, those that were trained on with what that reached, and the one whose turn it is."""

    options: Mbtl
    own: Array  # (n,) the family of each problem
    places: Array  # (families, d)
    current: int
    steps: int = 0  # of the current stage
    rates: dict[int, float] = field(default_factory=dict)
    reached: dict[int, float] = field(default_factory=dict)
    lost: list[float] = field(default_factory=lambda: [0.0, 0.0])  # sums of gap * distance and of distance squared

    def weights(self) -> Array:
        """1 in the family whose turn it is, else 0."""
        return np.asarray(self.own == self.current, float)

    def observe(self, outcomes: Sequence[tuple[int, float]]) -> dict[str, float]:
        for problem, rate in outcomes:
            family = int(self.own[problem])
            self.rates[family] = smoothed(self.rates.get(family, rate), rate, self.options.half_life)
        self.steps += 1
        metrics = {"curriculum/family": float(self.current), "curriculum/slope": self.slope}
        if self.steps >= self.options.stage_steps:
            self._choose()
        return metrics

    @property
    def slope(self) -> float:
        """Pass rate that is lost per unit of distance from the family that was trained on."""
        if self.options.slope is not None:
            return self.options.slope
        return max(self.lost[0] / self.lost[1], 0.0) if self.lost[1] else 0.0

    def state(self) -> Mapping[str, Any]:
        pairs = {name: [[f, value] for f, value in getattr(self, name).items()] for name in ("rates", "reached")}
        return {"current": self.current, "steps": self.steps, "lost": list(self.lost), **pairs}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.current, self.steps, self.lost = int(state["current"]), int(state["steps"]), list(state["lost"])
        for name in ("rates", "reached"):
            setattr(self, name, {int(f): value for f, value in state[name]})

    def _choose(self) -> None:
        """End the stage: note what it reached and how far that carries, and take the family with the largest gain."""
        distances = np.sqrt(np.square(self.places[:, None] - self.places[None]).sum(axis=2))
        if self.current in self.rates:
            self.reached[self.current] = here = self.rates[self.current]
            for other, rate in self.rates.items():
                away = float(distances[self.current, other])
                self.lost[0] += (here - rate) * away
                self.lost[1] += away**2
        if self.reached:
            trained = list(self.reached)
            targets = np.array([self.reached[family] for family in trained])
            mean, deviation = predicted(self.places[trained], targets, self.places, self.options.noise)
            best = np.array([self.rates.get(family, 0.0) for family in range(len(self.places))])
            gains = transfer_gain(mean, deviation, self.options.beta, self.slope, distances, best)
            self.current = int(gains.argmax())
        self.steps = 0


def middle(places: Array) -> int:
    """The family nearest to the midpoint of the features; the first of equals."""
    midpoint = (places.min(axis=0) + places.max(axis=0)) / 2
    return int(np.square(places - midpoint).sum(axis=1).argmin())


plugin = Mbtl
