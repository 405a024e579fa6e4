"""Certainty of a model about each token of a text: numbers that tell a familiar form from a strange one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

SURE, CONTESTED = 0.8, 0.1  # the first choice below the one, the second above the other


def token_uncertainty(probabilities: ArrayLike) -> Mapping[str, list[float] | list[bool]]:
    """Numbers of each token's distribution, which must sum to 1.

    Args:
        probabilities: (T, V), of at least two tokens.
    Returns:
        `entropy` and `varentropy` (variance of -log p) in nats, `gini_impurity`, `uncertain_top1` (the first choice is
        below 0.8) and `contested_top2` (the second is above 0.1). A sharp rise of the last two after fine-tuning is the
        sign of a form that the model does not know.
    Source: the reasoning blueprint (arXiv 2501.11223).
    """
    p = np.asarray(probabilities, np.float64)
    surprise = -np.log(np.where(p > 0, p, 1.0))
    entropy = (p * surprise).sum(-1)
    second, first = np.sort(p, axis=-1)[:, -2:].T
    return {
        "entropy": entropy.tolist(),
        "varentropy": (p * (surprise - entropy[:, None]) ** 2).sum(-1).tolist(),
        "gini_impurity": (1.0 - (p**2).sum(-1)).tolist(),
        "uncertain_top1": (first < SURE).tolist(),
        "contested_top2": (second > CONTESTED).tolist(),
    }
