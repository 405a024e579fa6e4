"""Two sources of stored answers in one: rows of now, and some of earlier tasks beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from llmrl.offline.source import OfflineSource
from llmrl.samples import Sample
from llmrl.types import Trajectory

REPLAY = "replay"


class RehearsalSource:
    """Gives the samples of both sources in each step; groups of the second are called `replay/<epoch>/<row>`."""

    played: Sequence[Sequence[Trajectory]] = ()

    def __init__(self, now: OfflineSource, earlier: OfflineSource) -> None:
        self._now, self._earlier = now, earlier
        self.data: Mapping[str, Any] = {**now.data, REPLAY: dict(earlier.data)}
        self.metrics: Mapping[str, float] = {}

    def next(self, step: int) -> list[Sample]:
        """Return the samples of a step, those of now first.

        Raises:
            DataError: as `OfflineSource.next`, of either.
        """
        fresh = self._now.next(step)
        earlier = self._earlier.next(step)
        old = [replace(sample, group=f"{REPLAY}/{sample.group}", origin="replay") for sample in earlier]
        self.metrics = {
            **self._now.metrics,
            "replay/samples": len(old) / (len(fresh) + len(old)),
            "replay/epoch": self._earlier.metrics["offline/epoch"],
            "replay/reward": fmean(sample.reward for sample in old),
        }
        return fresh + old

    def timings(self) -> Mapping[str, float]:
        return {}

    def state(self) -> Mapping[str, Any]:
        return {"now": self._now.state(), REPLAY: self._earlier.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on behind the last rows of both.

        Raises:
            DataError: the rows of either are others than those of the checkpoint.
        """
        self._now.restore(state["now"])
        self._earlier.restore(state[REPLAY])

    def mark(self) -> None:
        """Remember where both stand, for `rewind`."""
        self._now.mark()
        self._earlier.mark()

    def rewind(self) -> None:
        """Go back to where they were marked."""
        self._now.rewind()
        self._earlier.rewind()

    def close(self) -> None:
        """Nothing runs."""
