"""A run, open: its parts, and the closing of all that they started."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

from llmrl.errors import LlmrlError, Stopped
from llmrl.protocols import Algorithm
from llmrl.recipe import Recipe
from llmrl.train import random_states
from llmrl.train.build import Parts, build
from llmrl.train.callbacks import OnState
from llmrl.train.epochs import in_steps
from llmrl.train.evaluation import OnSample, unseen
from llmrl.train.parts import Rewinds
from llmrl.train.recorder import OnStep
from llmrl.train.stopping import Stopping


class Run(Parts):
    """The parts of one run. A context manager: engines, worker processes and trackers are stopped whatever happens.

    Args:
        recipe: of the run.
        resume: True goes on from the newest checkpoint in its folder, a path from that one.
        name: of its folder, where the recipe has no `train.run_name`.
        on_step, on_sample: see every step, and every answer of an evaluation.
        callbacks: see every step, too, and may ask for a checkpoint or for the end.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        resume: bool | Path = False,
        name: str = "run",
        stopping: Stopping | None = None,
        on_step: OnStep | None = None,
        on_sample: OnSample = unseen,
        callbacks: Sequence[OnState] = (),
    ) -> None:
        recipe = in_steps(recipe)
        with ExitStack() as started:  # closes all where building fails, also where one of them fails to
            parts = build(
                recipe,
                started,
                resume=resume,
                name=name,
                stopping=stopping or Stopping(),
                on_step=on_step,
                on_sample=on_sample,
                callbacks=callbacks,
            )
            vars(self).update(vars(parts))
            self._started = started.pop_all()
        self.step = self.first_step  # the one at hand
        self.stopping.grace_s = recipe.train.stop_grace_s
        self.stopping.too_late = lambda: self.recorder.status(f"stopped: {self.stopping}")

    @property
    def folder(self) -> Path:
        """The run's output folder."""
        return self.logs.folder

    @property
    def algorithm(self) -> Algorithm:
        """The recipe's, as it stands."""
        return self.adaptation.algorithm

    def start(self) -> None:
        """Give each engine its policy's weights and prove that it has them; evaluate before the first step."""
        for policy in self.policies:
            policy.sync(version=self.first_step)
        if self.first_step == 0:
            self.evaluation.at_start()

    def begin(self, step: int) -> None:
        """Start a step: its clock, and what there is to go back to where a signal drops the step."""
        self.clock.begin()
        self.step = step
        rewinding = [part for part in (self.source, self.normaliser) if isinstance(part, Rewinds)]
        for part in rewinding:
            part.mark()
        self._random = random_states.capture()
        self.stopping.step_begins(self.accelerator, droppable=len(rewinding) == 2)

    def finish(self) -> None:
        """Export all trained models to `final/` with their card, draw the curves, and publish where it is asked for.

        Raises:
            CheckpointError: the disk is full or not writable; or the hub refuses, which costs nothing of the run.
        """
        self.stopping.steps_end()
        steps = min(self.step + 1, self.recipe.train.max_steps)
        self.publisher.export(self.folder / "final", steps)
        self.logs.curves()
        self.recorder.status("finished", steps=steps)
        self.publisher.finish(self.folder / "final", steps)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if isinstance(error, Stopped):
                self._keep()
                error.steps = self.saver.saved
        finally:
            if error is not None:
                with suppress(LlmrlError):  # a full disk, say: the error that stopped the run is the one to tell
                    self.recorder.stopped(error)
            self.close()

    def _keep(self) -> None:
        """Save the run as it was before the step that a signal has dropped, if any. Collective.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        if self.stopping.droppable and self.step > self.saver.saved:
            self.stopping.commit()
            for part in (self.source, self.normaliser):
                cast(Rewinds, part).rewind()
            random_states.put_back(self._random)
            self.saver.save(self.step)

    def close(self) -> None:
        """Stop what the run started; safe to call twice."""
        self._started.close()
