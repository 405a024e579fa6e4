"""Space of a search: keys of a recipe that vary, and metrics that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import Any, Literal

from llmrl.errors import RecipeError
from llmrl.plugins import construct
from llmrl.recipe import tree

LOGIT = "logit of "
"""Begins the name of a parameter that stands for a weight; the first weight has none."""
WIDEST = 3.0
"""Logits lie between its negative and it: of two weights none is below 0.047."""
Params = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, alike, or alike in their logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low}, high {self.high}: expected low below high, and above 0 with log")


@dataclass(frozen=True, kw_only=True)
class Space:
    """Keys of a recipe to vary, and metrics to look at."""

    objectives: Mapping[str, Literal["maximize", "minimize"]]  # names of metrics.jsonl; their last values
    reference: Sequence[float]  # a value of each objective that is worse than all; fixed before the search
    search: Mapping[str, Any] = field(default_factory=dict)  # by key of the recipe, a list of choices or a `Range`
    weights: Sequence[str] = ()  # keys of the recipe that are weights and sum to 1
    seeds: Sequence[int] = (0,)  # train.seed of the runs of a trial, whose objectives are averaged
    sampler: Literal["tpe", "random"] = "tpe"  # tpe needs Optuna

    def __post_init__(self) -> None:
        if not self.objectives or len(self.reference) != len(self.objectives):
            raise ValueError("objectives: expected at least one, and a number of `reference` for each")
        if len(self.weights) == 1 or not (self.search or self.weights):
            raise ValueError("expected keys under search, or at least two under weights")
        if not self.seeds:
            raise ValueError("seeds: expected at least one")
        ranges = {key: self._dimension(key, given) for key, given in self.search.items()}
        object.__setattr__(self, "search", ranges)

    @property
    def dimensions(self) -> dict[str, Range | list[Any]]:
        """Everything that a trial chooses, by name: keys of the recipe, and logits of weights."""
        logits = {f"{LOGIT}{key}": Range(low=-WIDEST, high=WIDEST) for key in self.weights[1:]}
        return {**self.search, **logits}

    def overrides(self, params: Params) -> list[str]:
        """A trial's choices as `section.key=value`; weights are a softmax."""
        chosen = {key: value for key, value in params.items() if not key.startswith(LOGIT)}
        odds = {key: exp(params.get(f"{LOGIT}{key}", 0.0)) for key in self.weights}
        total = sum(odds.values())
        chosen |= {key: round(value / total, 6) for key, value in odds.items()}
        return [f"{key}={value if isinstance(value, str | bool) else repr(value)}" for key, value in chosen.items()]

    def maximised(self, values: Sequence[float]) -> list[float]:
        """Objectives, or the reference, with the sign of those that are to be small turned round."""
        ways = self.objectives.values()
        return [value if way == "maximize" else -value for value, way in zip(values, ways, strict=True)]

    @staticmethod
    def _dimension(key: str, given: Any) -> Range | list[Any]:
        if isinstance(given, Range):
            return given
        if isinstance(given, Mapping):
            made: Range = construct(Range, given, f"search.{key}")
            return made
        if not isinstance(given, list) or not given or not all(isinstance(x, str | int | float) for x in given):
            raise ValueError(f"search.{key}: {given!r:.60}; expected a list of choices, or {{low: , high: , log: }}")
        return given


def read(path: Path) -> Space:
    """The space in a YAML file.

    Raises:
        RecipeError: no such file, not YAML, an unknown key, or values that make no sense.
    """
    space: Space = construct(Space, tree(path), str(path))
    if any("=" in key for key in (*space.search, *space.weights)):
        raise RecipeError(f"{path}: keys have no equals sign; expected section.key, such as train.learning_rate")
    return space
