"""Two outcomes of a step beside each other: directions, norms, and the tokens that gain or lose credit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from torch import Tensor

from llmrl.replaying.outcome import Outcome, Place, place
from llmrl.samples import Array, Sample

_SAME = 1e-6
"""Change of a token's share of the credit that counts as none, in shares of the largest."""
_CLIPS = ("clip_ratio/region_mean", "cispo_clip_ratio", "clip_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """A token's credit under two algorithms, each as a share of the credit of all tokens of the step."""

    where: Place
    token: int  # position in the sample
    before: float
    now: float

    @property
    def change(self) -> float:
        """The difference."""
        return self.now - self.before


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An outcome against that of the record."""

    outcome: Outcome
    cosine: float | None  # of the gradients; None where one of them is 0
    update_cosine: float | None  # of the changes of the weights
    gained: int  # tokens whose share of the credit rose, against the record
    lost: int
    flipped: int  # tokens that are pushed the other way
    credit: Sequence[Credit]  # of all tokens that either pushes, the largest changes first

    def summary(self) -> dict[str, Any]:
        """Numbers of the comparison as JSON has them."""
        metrics = dict(self.outcome.metrics)
        return {
            "label": self.outcome.label,
            "algorithm": dict(self.outcome.spec),
            "loss": metrics.get("loss"),
            "gradient": {"norm": norm(self.outcome.gradient), "cosine": self.cosine},
            "update": {"norm": norm(self.outcome.change), "cosine": self.update_cosine},
            "clip_share": clip_share(metrics),
            "tokens": {
                "credited": int(sum(np.count_nonzero(push) for push in self.outcome.pushes.values())),
                "gain": self.gained,
                "lose": self.lost,
                "flip": self.flipped,
            },
            "fresh_models": list(self.outcome.fresh),
            "metrics": metrics,
        }


def compare(record: Outcome, other: Outcome) -> Comparison:
    """Compare an outcome with the record's."""
    credit = sorted(_credit(record.pushes, other.pushes), key=lambda each: -abs(each.change))
    least = _SAME * max((max(abs(each.before), abs(each.now)) for each in credit), default=0.0)
    return Comparison(
        outcome=other,
        cosine=cosine(record.gradient, other.gradient),
        update_cosine=cosine(record.change, other.change),
        gained=sum(each.change > least for each in credit),
        lost=sum(each.change < -least for each in credit),
        flipped=sum(each.before * each.now < 0 for each in credit),
        credit=credit,
    )


def shares(pushes: Mapping[Place, Array]) -> dict[Place, Array]:
    """The pushes of a step as shares of all of them: their absolute values add up to 1."""
    total = sum(float(np.abs(push).sum()) for push in pushes.values())
    return {where: push / total if total else push for where, push in pushes.items()}


def cosine(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> float | None:
    """Cosine of the angle between two lists of weights; None where one of them is 0."""
    product = sum(float((left[name].double() * right[name].double()).sum()) for name in left.keys() & right.keys())
    lengths = norm(left) * norm(right)
    return product / lengths if lengths else None


def norm(weights: Mapping[str, Tensor]) -> float:
    """Euclidean length of a list of weights."""
    return sqrt(sum(float(weight.double().square().sum()) for weight in weights.values()))


def clip_share(metrics: Mapping[str, float]) -> float | None:
    """Share of the tokens whose term was clipped, over the updates of the step; None where nothing clips."""
    return next((metrics[name] for name in _CLIPS if name in metrics), None)


def episodes(samples: Sequence[Sample], outcomes: Sequence[Outcome], text: Any) -> list[dict[str, Any]]:
    """Credit of every token of a step under each outcome, for a viewer.

    Args:
        samples: of the step.
        outcomes: by label.
        text: makes text of a list of ids.
    """
    credited = {outcome.label: shares(outcome.pushes) for outcome in outcomes}
    rows = []
    for sample in samples:
        ids = sample.token_ids.tolist()
        none = np.zeros(len(ids), np.float32)
        own = {label: pushes.get(place(sample), none) for label, pushes in credited.items()}
        rows.append(
            {
                "group": sample.group,
                "episode": sample.episode,
                "reward": sample.reward if sample.reward == sample.reward else None,
                "token_ids": ids,
                "texts": [text([token]) for token in ids],
                "turn_ids": sample.turn_ids.tolist(),
                "credit": {label: [float(f"{number:.6g}") for number in push] for label, push in own.items()},
            }
        )
    return rows


def _credit(before: Mapping[Place, Array], now: Mapping[Place, Array]) -> Iterator[Credit]:
    old, new = shares(before), shares(now)
    for where in dict.fromkeys((*old, *new)):
        length = len(old[where] if where in old else new[where])
        pair = [side.get(where, np.zeros(length)) for side in (old, new)]
        for token in np.flatnonzero((pair[0] != 0) | (pair[1] != 0)).tolist():
            yield Credit(where=where, token=token, before=float(pair[0][token]), now=float(pair[1][token]))
