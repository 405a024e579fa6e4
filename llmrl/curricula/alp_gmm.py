"""ALP-GMM: Gaussians over features and absolute learning progress; the ones with most progress are drawn from."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrl.datafiles.features import LENGTH, features
from llmrl.ops.curriculum import learning_progress
from llmrl.ops.mixtures import GaussianMixture, best_mixture
from llmrl.samples import Array
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class AlpGmm:
    """Draws a Gaussian in proportion to its mean progress, then a problem by its density (arXiv 1910.07224)."""

    random_share: float = 0.2  # of the draws, over all problems; all of them until the first fit
    features: Sequence[str] = field(default=(LENGTH,), hash=False)  # length, pass_rate, keys of `Problem.info`
    records: str | None = None  # a file of `llmrl eval --samples 16`, for the feature pass_rate
    fit_every: int = 250  # groups; a fit is of the newest so many
    max_components: int = 10  # from 2 on, by Akaike's criterion
    history: int = 20000  # newest outcomes among which the nearest is looked for

    def __post_init__(self) -> None:
        if not self.features or not 0 <= self.random_share <= 1:
            raise ValueError("expected at least one of features, and random_share from 0 to 1")
        if self.max_components < 2 or self.fit_every <= self.max_components or self.history < self.fit_every:
            raise ValueError(
                f"max_components {self.max_components}, fit_every {self.fit_every}, history {self.history}: expected "
                "at least 2, more than max_components, and at least fit_every"
            )

    def start(self, problems: Sequence[Problem]) -> Gaussians:
        return Gaussians(self, features(problems, self.features, self.records))


@dataclass
class Gaussians:
    """Outcomes so far, the progress of each, and the mixture of the last fit."""

    options: AlpGmm
    places: Array  # (n, d) of the problems
    tried: array[int] = field(default_factory=lambda: array("q"))
    rates: array[float] = field(default_factory=lambda: array("d"))
    progress: array[float] = field(default_factory=lambda: array("d"))
    since: int = 0  # outcomes behind the last fit
    mixture: GaussianMixture | None = None

    def weights(self) -> Array:
        """Density of each problem under its Gaussians, each of which shares its mean progress."""
        if self.mixture is None:
            return np.ones(len(self.places))
        size = self.places.shape[1]
        logs = self.mixture.leading(size).log_densities(self.places)
        shares = np.exp(logs - logs.max(axis=0))
        return np.asarray((shares / shares.sum(axis=0)) @ np.maximum(self.mixture.means[:, size], 0.0))

    def observe(self, outcomes: Sequence[tuple[int, float]]) -> dict[str, float]:
        """Measure the progress of each outcome; fit again when there are enough."""
        for problem, rate in outcomes:
            if self.tried:
                earlier = self.places[np.array(self.tried)]
                _, progress = learning_progress(earlier, np.array(self.rates), self.places[problem], rate)
                self.progress.append(progress)
            else:
                self.progress.append(0.0)
            self.tried.append(problem)
            self.rates.append(rate)
            self.since += 1
        if self.since >= self.options.fit_every:
            self._fit()
        self._forget()
        newest = self.progress[-self.options.fit_every :]
        metrics = {"curriculum/progress": sum(newest) / len(newest)} if newest else {}
        return metrics | ({"curriculum/components": float(len(self.mixture.weights))} if self.mixture else {})

    def state(self) -> Mapping[str, Any]:
        kept = {"tried": self.tried[:], "rates": self.rates[:], "progress": self.progress[:], "since": self.since}
        return kept | {"mixture": None if self.mixture is None else self.mixture.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.tried, self.rates, self.progress = (state[name][:] for name in ("tried", "rates", "progress"))
        self.since = int(state["since"])
        self.mixture = None if state["mixture"] is None else GaussianMixture.restored(state["mixture"])

    def _fit(self) -> None:
        newest = slice(-self.options.fit_every, None)
        points = np.column_stack([self.places[np.array(self.tried[newest])], np.array(self.progress[newest])])
        self.mixture = best_mixture(points, range(2, self.options.max_components + 1))
        self.since = 0

    def _forget(self) -> None:
        for kept in (self.tried, self.rates, self.progress):
            del kept[: -self.options.history]


plugin = AlpGmm
