"""Mixtures of Gaussians: fitted by expectation and maximisation, chosen by Akaike's criterion; no chance in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, pi
from typing import Any

import numpy as np

from llmrl.samples import Array

REGULARISATION = 1e-6
"""Added to the diagonal of each covariance."""
TOLERANCE, ITERATIONS = 1e-3, 100
"""Gain in mean log-likelihood at which the fit ends, and its longest."""


@dataclass(frozen=True, slots=True)
class GaussianMixture:
    """A mixture of K Gaussians over d numbers."""

    weights: Array  # (K,)
    means: Array  # (K, d)
    covariances: Array  # (K, d, d)

    def log_densities(self, points: Array) -> Array:
        """(n, K) log-density of each component, without its weight."""
        columns = []
        for mean, covariance in zip(self.means, self.covariances, strict=True):
            factor = np.linalg.cholesky(covariance)
            whitened = np.linalg.solve(factor, (points - mean).T)
            constant = len(mean) * log(2 * pi) + 2 * np.log(np.diag(factor)).sum()
            columns.append(-0.5 * (np.square(whitened).sum(axis=0) + constant))
        return np.stack(columns, axis=1)

    def leading(self, size: int) -> GaussianMixture:
        """The mixture of the first `size` of the numbers."""
        return GaussianMixture(self.weights, self.means[:, :size], self.covariances[:, :size, :size])

    def log_likelihood(self, points: Array) -> float:
        """Mean log-likelihood of the points."""
        return float(_log_sums(self.log_densities(points) + np.log(self.weights)).mean())

    def aic(self, points: Array) -> float:
        """Akaike's criterion: lower is better."""
        count, size = self.means.shape
        parameters = count - 1 + count * size + count * size * (size + 1) // 2
        return float(2 * parameters - 2 * len(points) * self.log_likelihood(points))

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name).tolist() for name in self.__slots__}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> GaussianMixture:
        return cls(**{name: np.array(value) for name, value in state.items()})


def best_mixture(points: Array, components: Sequence[int]) -> GaussianMixture:
    """The fit with the lowest AIC, of those with fewer components than there are points."""
    fits = [fitted(points, count) for count in components if count < len(points)]
    return min(fits, key=lambda fit: fit.aic(points))


def fitted(points: Array, components: int) -> GaussianMixture:
    """Fit a mixture to (n, d) points, from centres that lie far apart: the same points give the same mixture."""
    mixture = _maximised(points, _assigned(points, components))
    before = mixture.log_likelihood(points)
    for _ in range(ITERATIONS):
        joint = mixture.log_densities(points) + np.log(mixture.weights)
        mixture = _maximised(points, np.exp(joint - _log_sums(joint)[:, None]))
        after = mixture.log_likelihood(points)
        if abs(after - before) < TOLERANCE:
            break
        before = after
    return mixture


def _assigned(points: Array, components: int) -> Array:
    """(n, K) ones and zeros: ten rounds of k-means from the point that is farthest from all centres so far."""
    centres = [points[int(np.argmin(np.square(points - points.mean(axis=0)).sum(axis=1)))]]
    while len(centres) < components:
        centres.append(points[int(np.argmax(_distances(points, np.stack(centres)).min(axis=1)))])
    means = np.stack(centres)
    for _ in range(10):
        near = np.eye(components)[np.argmin(_distances(points, means), axis=1)]
        counts = near.sum(axis=0)
        means = np.where(counts[:, None] > 0, (near.T @ points) / np.maximum(counts, 1)[:, None], means)
    return np.asarray(near)


def _maximised(points: Array, shares: Array) -> GaussianMixture:
    """The mixture of components that own (n, K) shares of the points."""
    counts = shares.sum(axis=0) + 10 * np.finfo(float).eps
    means = (shares.T @ points) / counts[:, None]
    covariances = []
    for k, mean in enumerate(means):
        apart = points - mean
        covariance = (shares[:, k, None] * apart).T @ apart / counts[k]
        covariances.append(covariance + REGULARISATION * np.eye(points.shape[1]))
    return GaussianMixture(counts / counts.sum(), means, np.stack(covariances))


def _distances(points: Array, centres: Array) -> Array:
    return np.asarray(np.square(points[:, None] - centres[None]).sum(axis=2))


def _log_sums(numbers: Array) -> Array:
    """(n,) log of the sum of exponentials over each row."""
    largest = numbers.max(axis=1)
    return np.asarray(largest + np.log(np.exp(numbers - largest[:, None]).sum(axis=1)))
