"""Seconds of a step by what it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


class Stopwatch:
    """Divides a step's time into generating and waiting for scores, which mostly overlap.

    `generate` is the seconds in which some episode was running, `score` those in which none was and a score was
    awaited: the time that scoring adds to a step.
    """

    def __init__(self) -> None:
        self._open = {"generate": 0, "score": 0}
        self._seconds = {"generate": 0.0, "score": 0.0}
        self._since = 0.0

    @contextmanager
    def during(self, phase: Literal["generate", "score"]) -> Iterator[None]:
        """Count the time inside as generating an episode, or as scoring a group."""
        self._settle()
        self._open[phase] += 1
        try:
            yield
        finally:
            self._settle()
            self._open[phase] -= 1

    def read(self) -> dict[str, float]:
        """The seconds since the last call."""
        self._settle()
        taken, self._seconds = self._seconds, {"generate": 0.0, "score": 0.0}
        return taken

    def _settle(self) -> None:
        now = time.perf_counter()
        phase = "generate" if self._open["generate"] else "score"
        if self._open[phase]:
            self._seconds[phase] += now - self._since
        self._since = now
