"""Returns in buckets, and the choice of stored answers to rehearse: plain numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np


def edges_of(returns: Sequence[float], quantiles: Sequence[float]) -> list[float]:
    """The returns at the quantiles, between two neighbours by linear interpolation."""
    return [float(edge) for edge in np.quantile(np.asarray(returns, float), quantiles)]


def bucket_of(value: float, edges: Sequence[float]) -> int:
    """The bucket of a return, from 0; one that lies on an edge belongs to the upper bucket."""
    return int(np.searchsorted(edges, value, side="right"))


def rehearsed(
    nll: Sequence[float],
    success: Sequence[bool],
    count: int,
    clusters: Sequence[Hashable] | None = None,
    per_cluster: int | None = None,
) -> list[int]:
    """Choose answers to keep: the successful ones with the lowest negative log-likelihood per token, lowest first.

    Args:
        nll: per token, of each answer, by the policy that was trained on them.
        success: answers that failed are never kept.
        count: at most so many are kept.
        clusters: names of the problems, of which each gives at most `per_cluster`.
    Source: offline experience replay, with the policy itself in place of a learned model of what it visits.
    """
    kept: list[int] = []
    taken: Counter[Hashable] = Counter()
    for i in sorted((i for i, right in enumerate(success) if right), key=lambda i: (nll[i], i)):
        cluster = None if clusters is None else clusters[i]
        if len(kept) < count and (per_cluster is None or taken[cluster] < per_cluster):
            kept.append(i)
            taken[cluster] += 1
    return kept
