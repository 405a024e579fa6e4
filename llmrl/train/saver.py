"""Saves a run when it is due: a checkpoint is `{part: state}` beside the models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llmrl.errors import Stopped, TrainingError
from llmrl.recipe import TrainOptions
from llmrl.run_folder.writer import Logs
from llmrl.train.checkpoints import Checkpoints
from llmrl.train.evaluation import Evaluation
from llmrl.train.parts import FinishedStep, Stateful
from llmrl.train.stopping import Stopping


class Saver:
    """Saves a run when it is due: every so many steps, behind the last, and where a part asks for it.

    Args:
        checkpoints: where.
        parts: whose states a checkpoint keeps, by name.
        evaluation: knows which checkpoint is kept besides the newest.
        options: `save_steps` and `max_steps`.
        logs: are on the disk before a checkpoint is: a resumed run keeps their lines up to its step.
        stopping: a signal that came asks for a checkpoint too, and ends the run behind it.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        parts: Mapping[str, Stateful],
        evaluation: Evaluation,
        options: TrainOptions,
        logs: Logs,
        stopping: Stopping | None = None,
    ) -> None:
        self._stopping = stopping or Stopping()
        self._checkpoints = checkpoints
        self._logs = logs
        self._parts = parts
        self._evaluation = evaluation
        self._every = options.save_steps
        self._last = options.max_steps
        self.saved = 0  # steps of the last checkpoint; 0 without one

    def after_step(self, finished: FinishedStep) -> None:
        """Save if it is due.

        Raises:
            CheckpointError: the disk is full or not writable.
            TrainingError: an alarm ends the run, now that it is saved.
            Stopped: a signal does.
        """
        due = (self._every and finished.done % self._every == 0) or finished.done == self._last
        number = self._stopping.step_ends()
        if not (due or finished.save or finished.alarm or finished.ends or number):
            return
        saved = self.save(finished.done)
        if number:
            raise Stopped(number)
        if finished.alarm:
            raise TrainingError(f"{finished.alarm}. It was saved in {saved}; with audit.stop=false it goes on")

    def save(self, done: int) -> Path:
        """Save the run after so many steps, with the states of all parts as they are. Collective.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        self._logs.flush()
        states = {name: part.state() for name, part in self._parts.items()}
        saved = self._checkpoints.save(done, states, best=self._evaluation.best_step)
        self.saved = done
        return saved

    def restore(self, checkpoint: Path) -> int:
        """Put the run back as it was; steps that were taken.

        Raises:
            CheckpointError: as `Checkpoints.restore`.
        """
        step, states = self._checkpoints.restore(checkpoint)
        for name, part in self._parts.items():
            part.restore(states[name])
        self.saved = step
        return step
