"""Contracts between the parts of a run: a finished step, parts that act on it, parts with a state; the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from llmrl.samples import Sample
from llmrl.types import Score, Trajectory


@dataclass(slots=True, kw_only=True)
class FinishedStep:
    """A step behind its last update, on its way from part to part: each adds to it."""

    step: int  # from 0
    samples: Sequence[Sample]  # with their credit
    groups: Sequence[Sequence[Trajectory]]  # its episodes
    metrics: dict[str, float]
    audited: Mapping[tuple[str, int], Score] = field(default_factory=dict)  # by group and episode, gold scores
    save: bool = False  # True asks for a checkpoint behind this step, due or not
    alarm: str = ""  # ends the run, behind a checkpoint; says why
    ends: str = ""  # a callback asks that this step be the last; says why

    @property
    def done(self) -> int:
        """Steps of the run so far, this one included."""
        return self.step + 1


def metric_prefix(agent: str) -> str:
    """Beginning of the names of an agent's own metrics: `agents/second/`; "" for the run's policy."""
    return f"agents/{agent}/" if agent else ""


class ActsAfterStep(Protocol):
    """A part that acts when a step has ended."""

    def after_step(self, finished: FinishedStep) -> None: ...


class Stateful(Protocol):
    """A part with a state that a checkpoint keeps: values of JSON, and arrays."""

    def state(self) -> Mapping[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        ...


@runtime_checkable
class Rewinds(Protocol):
    """A part that a step changes before its first update, and that can take it back."""

    def mark(self) -> None:
        """Remember the state before a step."""
        ...

    def rewind(self) -> None:
        """Go back to the last mark."""
        ...


class Clock:
    """Seconds of each phase of a step, and of the step so far."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start a step: all clocks at 0."""
        self._began = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a phase; one that occurs twice adds up."""
        started = time.perf_counter()
        yield
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - started

    @property
    def step_seconds(self) -> float:
        """Seconds since the step began."""
        return time.perf_counter() - self._began

    def metrics(self) -> dict[str, float]:
        """`time/<phase>` of the phases that have ended."""
        return {f"time/{phase}": seconds for phase, seconds in self._seconds.items()}
