"""Callbacks of a run: functions of its user that see every step, and may ask for a checkpoint or for the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llmrl.rollout.concerted import concerted
from llmrl.train.parallel import gather
from llmrl.train.parts import FinishedStep
from llmrl.types import Trajectory


@dataclass(kw_only=True)
class StepState:
    """A step that has ended, as a callback sees it; `save()` and `stop()` take effect behind it."""

    step: int  # steps that were taken, this one included
    max_steps: int
    metrics: Mapping[str, float]
    groups: Sequence[Sequence[Trajectory]]  # episodes of the step, by group; none of stored answers
    folder: Path  # of the run
    saves: bool = field(default=False, init=False)
    stops: str = field(default="", init=False)

    @property
    def episodes(self) -> list[Trajectory]:
        """Episodes of the step, those of a group together."""
        return [episode for group in self.groups for episode in group]

    def save(self) -> None:
        """Ask for a checkpoint behind this step."""
        self.saves = True

    def stop(self, reason: str = "a callback asked for it") -> None:
        """Ask for the end of the run behind this step: it is saved, and `final/` is written as after the last step."""
        self.stops = reason


OnState = Callable[[StepState], Any]


class Callbacks:
    """Calls the callbacks in the main process, and lets all processes do what they ask for.

    Args:
        functions: in their order; what one raises ends the run.
        max_steps: of the recipe.
        folder: of the run.
        accelerator: of the processes.
    """

    def __init__(self, functions: Sequence[OnState], max_steps: int, folder: Path, accelerator: Any) -> None:
        self._functions = functions
        self._max_steps = max_steps
        self._folder = folder
        self._accelerator = accelerator

    def after_step(self, finished: FinishedStep) -> None:
        """Call them. Collective, where there are any."""
        if not self._functions:
            return
        join = partial(gather, world=self._accelerator.num_processes)
        main = self._accelerator.is_main_process
        ((saves, stops),) = join(concerted(lambda: [self._called(finished)] if main else [], join))
        finished.save |= saves
        finished.ends = stops

    def _called(self, finished: FinishedStep) -> tuple[bool, str]:
        state = StepState(
            step=finished.done,
            max_steps=self._max_steps,
            metrics=dict(finished.metrics),
            groups=finished.groups,
            folder=self._folder,
        )
        for function in self._functions:
            function(state)
        return state.saves, state.stops
