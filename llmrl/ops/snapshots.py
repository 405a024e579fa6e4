"""Choice of the stored states to start again from: plain numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from random import Random


def quantile_edges(values: Sequence[float], buckets: int) -> list[float]:
    """The `buckets - 1` values that part the sorted values into equal shares, by linear interpolation."""
    ordered = sorted(values)
    edges = []
    for i in range(1, buckets):
        place = (len(ordered) - 1) * i / buckets
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        edges.append(ordered[below] + (ordered[above] - ordered[below]) * (place - below))
    return edges


def bucket_of(values: Sequence[float], buckets: int) -> list[int]:
    """The bucket of each value, from 0; one that lies on an edge belongs to the lower bucket."""
    edges = quantile_edges(values, buckets)
    return [bisect_left(edges, value) for value in values]


def probabilities(values: Sequence[float], buckets: int) -> list[float]:
    """Probability of each state: equal over buckets that are not empty, then equal over the states of a bucket.

    Without buckets, a pool that is mostly easy, or mostly hopeless, would give mostly such states.
    Source: status classification in S3RL, with quantiles of the value in place of k-means clusters.
    """
    of = bucket_of(values, buckets)
    there = len(set(of))
    return [1.0 / (there * of.count(bucket)) for bucket in of]


def draw(values: Sequence[float], buckets: int, random: Random) -> int:
    """Draw the index of the state to start from."""
    of = bucket_of(values, buckets)
    bucket = random.choice(sorted(set(of)))
    return random.choice([i for i, other in enumerate(of) if other == bucket])
