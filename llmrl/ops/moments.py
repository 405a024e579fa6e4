"""Rewards on the scale of all rewards so far: running moments, and a step's rows standardised by them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum, isnan, sqrt

from llmrl.ops.credit import NO_SIGNAL, by_group, total
from llmrl.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Mean and spread of all numbers seen so far, in three numbers."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of the squared distances from the mean

    @property
    def deviation(self) -> float:
        """The standard deviation, with Bessel's correction; 0.0 of fewer than two numbers."""
        return sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0

    def seen(self, numbers: Iterable[float]) -> Moments:
        """The moments with more numbers among them; NaN is none.

        The numbers of one call may come in any order, to the last bit: sums are exact before they are rounded.
        Source: Welford 1962, for a step at a time as in Chan, Golub and LeVeque 1979.
        """
        given = [number for number in numbers if not isnan(number)]
        if not given:
            return self
        count, mean = self.count + len(given), fsum(given) / len(given)
        apart = mean - self.mean
        within = fsum((number - mean) ** 2 for number in given)
        return Moments(
            count=count,
            mean=self.mean + apart * len(given) / count,
            squares=self.squares + within + apart**2 * self.count * len(given) / count,
        )


def standardised(samples: Sequence[Sample], moments: Moments) -> tuple[list[Sample], Moments]:
    """The rows of a step with rewards less the mean, over the deviation, of all episodes up to and with this step's.

    What is standardised is all that an episode earned: rewards of single tokens and turns are divided with it, and the
    mean is taken off once, from its `reward`. `parts` and verdicts stay as they were.

    Args:
        samples: every row of the step, over all ranks; an episode counts once, however many rows it takes.
        moments: of the steps before.
    Returns:
        The rows in their order, and the moments with this step's episodes. While the deviation is below `NO_SIGNAL`,
        as in a first step whose rewards are all equal, the mean is taken off and nothing is divided. A reward of NaN
        stays NaN and is not counted; nor is an episode of an earlier step, which was.
    """
    played = by_group([row for row in samples if row.origin == "fresh"])
    moments = moments.seen(total(episode) for group in played for episode in group)
    scale = moments.deviation if moments.deviation >= NO_SIGNAL else 1.0
    return [_divided(row, (row.reward - moments.mean) / scale, scale) for row in samples], moments


def _divided(row: Sample, reward: float, scale: float) -> Sample:
    """The row with this reward, and the rewards of its tokens and turns over `scale`."""
    dense = row.columns.get("token_rewards")
    columns = row.columns if dense is None else {**row.columns, "token_rewards": dense / scale}
    return replace(row, reward=reward, turn_rewards=[own / scale for own in row.turn_rewards], columns=columns)
