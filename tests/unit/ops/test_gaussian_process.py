"""A Gaussian process: certain where it has seen, uncertain elsewhere, and the function it was shown."""

from __future__ import annotations

import numpy as np
import pytest

from llmrl.ops import gaussian_process
from llmrl.ops.gaussian_process import predicted


def test_one_target_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernel 1 * exp(-d^2 / 2), noise 0.5: at d = 1 the deviation is sqrt(1 - e^-1 / 1.25)."""
    monkeypatch.setattr(gaussian_process, "VARIANCES", (1.0,))
    monkeypatch.setattr(gaussian_process, "LENGTHS", (1.0,))
    mean, deviation = predicted(np.array([[0.0]]), np.array([0.7]), np.array([[0.0], [1.0]]), 0.5)
    assert mean.tolist() == pytest.approx([0.7, 0.7])  # a single target is the mean
    assert deviation.tolist() == pytest.approx([np.sqrt(1 - 1 / 1.25), np.sqrt(1 - np.exp(-1) / 1.25)])


def test_two_targets_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets 0.5 +- 0.5 at distance 1, kernel k = e^-0.5, noise 0.1: at the first, 0.5 + 0.5 (1 - k) / (1.01 - k)."""
    monkeypatch.setattr(gaussian_process, "VARIANCES", (1.0,))
    monkeypatch.setattr(gaussian_process, "LENGTHS", (1.0,))
    mean, _ = predicted(np.array([[0.0], [1.0]]), np.array([1.0, 0.0]), np.array([[0.0]]), 0.1)
    k = np.exp(-0.5)
    assert mean[0] == pytest.approx(0.5 + 0.5 * (1 - k) / (1.01 - k))


def test_a_smooth_function_is_learned() -> None:
    places = np.linspace(0, 1, 41)[:, None]
    seen = np.linspace(0, 1, 9)[:, None]
    mean, deviation = predicted(seen, np.sin(4 * seen[:, 0]), places, 0.01)
    assert np.abs(mean - np.sin(4 * places[:, 0])).max() < 0.02
    _, at_seen = predicted(seen, np.sin(4 * seen[:, 0]), seen, 0.01)
    assert at_seen.max() < 0.011
    assert predicted(seen[:2], np.sin(4 * seen[:2, 0]), places, 0.01)[1][-1] > 5 * deviation[-1]
