"""Regression by a Gaussian process with a constant times a squared-exponential kernel."""

from __future__ import annotations

from itertools import product

import numpy as np

from llmrl.samples import Array

VARIANCES = (0.01, 0.1, 1.0)
LENGTHS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Kernels among which the likelihood of what was seen chooses."""


def predicted(inputs: Array, targets: Array, places: Array, noise: float) -> tuple[Array, Array]:
    """Mean and standard deviation of the function at (n, d) places, given noisy targets at (m, d) inputs, at least one.

    The targets' mean is that of the process; variance and length of the kernel maximise their likelihood.
    """
    centre = float(targets.mean())
    variance, length = max(
        product(VARIANCES, LENGTHS), key=lambda each: _likelihood(inputs, targets - centre, each[0], each[1], noise)
    )
    between = _kernel(inputs, places, variance, length)
    factor = _factor(inputs, variance, length, noise)
    whitened = np.linalg.solve(factor, between)
    mean = centre + whitened.T @ np.linalg.solve(factor, targets - centre)
    left = np.maximum(variance - np.square(whitened).sum(axis=0), 0.0)
    return np.asarray(mean), np.asarray(np.sqrt(left))


def _likelihood(inputs: Array, targets: Array, variance: float, length: float, noise: float) -> float:
    """Log-likelihood of the targets, but for a constant."""
    factor = _factor(inputs, variance, length, noise)
    whitened = np.linalg.solve(factor, targets)
    return float(-0.5 * whitened @ whitened - np.log(np.diag(factor)).sum())


def _factor(inputs: Array, variance: float, length: float, noise: float) -> Array:
    return np.linalg.cholesky(_kernel(inputs, inputs, variance, length) + noise**2 * np.eye(len(inputs)))


def _kernel(a: Array, b: Array, variance: float, length: float) -> Array:
    apart = np.square(a[:, None] - b[None]).sum(axis=2)
    return np.asarray(variance * np.exp(-0.5 * apart / length**2))
