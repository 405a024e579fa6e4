"""Mixtures of Gaussians: they find those that points were drawn from."""

from __future__ import annotations

import json
from math import log, pi

import numpy as np
import pytest

from llmrl.ops.mixtures import GaussianMixture, best_mixture, fitted
from llmrl.samples import Array


def clouds(seed: int = 0) -> Array:
    generator = np.random.default_rng(seed)
    near = ([0.2, 0.1], 0.03, 80), ([0.7, 0.5], 0.05, 120), ([0.4, 0.9], 0.04, 100)
    return np.concatenate([generator.normal(mean, width, (count, 2)) for mean, width, count in near])


def test_a_density_is_that_of_a_gaussian() -> None:
    """Variances 4 and 1 at a distance of (2, 1): -0.5 * (1 + 1) - log(2 pi) - 0.5 * log(4)."""
    mixture = GaussianMixture(np.array([1.0]), np.array([[0.0, 0.0]]), np.array([[[4.0, 0.0], [0.0, 1.0]]]))
    density = float(mixture.log_densities(np.array([[2.0, 1.0]]))[0, 0])
    assert density == pytest.approx(-1 - log(2 * pi) - 0.5 * log(4))
    parameters = 2 + 3
    assert mixture.aic(np.array([[2.0, 1.0]])) == pytest.approx(2 * parameters - 2 * density)


def test_the_clouds_are_found() -> None:
    points = clouds()
    mixture = fitted(points, 3)
    order = np.argsort(mixture.means[:, 0])
    assert mixture.weights[order].tolist() == pytest.approx([80 / 300, 100 / 300, 120 / 300], abs=1e-3)
    assert np.abs(mixture.means[order] - [[0.2, 0.1], [0.4, 0.9], [0.7, 0.5]]).max() < 0.015
    own = points[:80]
    assert np.allclose(mixture.covariances[order[0]], np.cov(own.T, bias=True) + 1e-6 * np.eye(2), atol=1e-6)


def test_the_criterion_chooses_as_many_as_there_are() -> None:
    assert len(best_mixture(clouds(), range(2, 7)).weights) == 3


def test_a_fit_is_no_matter_of_chance_and_survives_json() -> None:
    mixture = fitted(clouds(), 4)
    again = GaussianMixture.restored(json.loads(json.dumps(fitted(clouds(), 4).state())))
    assert mixture.state() == again.state()
    assert mixture.log_likelihood(clouds(1)) == again.log_likelihood(clouds(1))


def test_points_that_are_all_alike_have_a_mixture() -> None:
    mixture = best_mixture(np.full((20, 2), 0.5), range(2, 6))
    assert np.isfinite(mixture.log_likelihood(np.full((1, 2), 0.5)))
