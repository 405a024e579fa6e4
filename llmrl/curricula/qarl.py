"""QARL: an adversary chooses what the policy fails at, nearly at random at first, and ever more rationally."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrl.datafiles.features import families
from llmrl.ops.curriculum import cooled, quantal_response, smoothed
from llmrl.recipe.ranges import Share
from llmrl.samples import Array
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class Qarl:
    """The adversary's quantal response: kinds of problems in proportion to `exp(failure rate / temperature)`.

    Its temperature falls whenever the policy succeeds often enough (arXiv 2311.01642); docs/curricula.md.
    """

    by: str = "perturbation"  # key of `Problem.info` that names a kind; data `perturbed` sets this one
    random_share: float = 0.0  # of the draws, over all problems; a warm adversary draws every kind anyway
    temperature: float = 2.0  # at first: nearly random
    decay: float = 0.7  # of the temperature, whenever the policy succeeds
    floor: float = 0.1  # below which it never falls
    success: Share = 0.6  # pass rate over a window at which it falls
    window: int = 64  # groups
    half_life: float = 10.0  # groups after which an outcome counts half in a kind's failure rate

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1 or not 0 < self.floor <= self.temperature:
            raise ValueError("decay must be above 0 and at most 1, floor above 0 and at most temperature")
        if self.window < 1 or not self.half_life > 0 or not 0 <= self.random_share <= 1:
            raise ValueError("window must be at least 1, half_life above 0, random_share from 0 to 1")

    def start(self, problems: Sequence[Problem]) -> Adversary:
        names, own = families(problems, self.by)
        return Adversary(self, names, own, self.temperature)


@dataclass
class Adversary:
    """Failure rates of the kinds of problems, the temperature, and the outcomes since it was last looked at."""

    options: Qarl
    names: Sequence[str]
    own: Array  # (n,) the kind of each problem
    temperature: float
    failures: dict[int, float] = field(default_factory=dict)
    recent: list[float] = field(default_factory=list)

    def choice(self) -> Array:
        """(kinds,) probability of each; one that was never drawn counts as failed."""
        payoffs = np.array([self.failures.get(kind, 1.0) for kind in range(len(self.names))])
        return quantal_response(payoffs, self.temperature)

    def weights(self) -> Array:
        """A problem's share of its kind's probability."""
        return np.asarray(self.choice() / np.bincount(self.own))[self.own]

    def observe(self, outcomes: Sequence[tuple[int, float]]) -> dict[str, float]:
        for problem, rate in outcomes:
            kind = int(self.own[problem])
            self.failures[kind] = smoothed(self.failures.get(kind, 1 - rate), 1 - rate, self.options.half_life)
            self.recent.append(rate)
            if len(self.recent) == self.options.window:
                options, success = self.options, sum(self.recent) / len(self.recent)
                self.temperature = cooled(
                    self.temperature, success, threshold=options.success, decay=options.decay, floor=options.floor
                )
                self.recent = []
        rates = {f"curriculum/failures/{self.names[kind]}": rate for kind, rate in sorted(self.failures.items())}
        return {"curriculum/temperature": self.temperature, **rates}

    def state(self) -> Mapping[str, Any]:
        failures = [[kind, rate] for kind, rate in self.failures.items()]
        return {"temperature": self.temperature, "failures": failures, "recent": list(self.recent)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.temperature, self.recent = float(state["temperature"]), list(state["recent"])
        self.failures = {int(kind): rate for kind, rate in state["failures"]}


plugin = Qarl
