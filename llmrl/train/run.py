"""A run, open: its parts, and the closing of all that they started."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from llmrl.errors import LlmrlError
from llmrl.protocols import Algorithm
from llmrl.recipe import Recipe
from llmrl.train.build import Parts, build
from llmrl.train.checkpoints import export
from llmrl.train.evaluation import OnSample, unseen
from llmrl.train.recorder import OnStep


class Run(Parts):
    """The parts of one run. A context manager: engines, worker processes and trackers are stopped whatever happens.

    Args:
        recipe: of the run.
        resume: True goes on from the newest checkpoint in its folder, a path from that one.
        name: of its folder, where the recipe has no `train.run_name`.
        on_step, on_sample: see every step, and every answer of an evaluation.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        resume: bool | Path = False,
        name: str = "run",
        on_step: OnStep | None = None,
        on_sample: OnSample = unseen,
    ) -> None:
        with ExitStack() as started:  # closes all where building fails, also where one of them fails to
            parts = build(recipe, started, resume=resume, name=name, on_step=on_step, on_sample=on_sample)
            super().__init__(**vars(parts))
            self._started = started.pop_all()

    @property
    def folder(self) -> Path:
        """The run's output folder."""
        return self.logs.folder

    @property
    def algorithm(self) -> Algorithm:
        """The recipe's, as it stands."""
        return self.adaptation.algorithm

    def start(self) -> None:
        """Give the engine the policy's weights and prove that it has them; evaluate before the first step."""
        self.sync(version=self.first_step)
        if self.first_step == 0:
            self.evaluation.at_start()

    def finish(self) -> None:
        """Export the policy to `final/` and draw the curves."""
        export(self.learners.policy, self.chat.tokenizer, self.folder / "final")
        self.logs.curves()
        self.recorder.status("finished", steps=self.recipe.train.max_steps)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _trace: Any) -> None:
        try:
            if error is not None:
                with suppress(LlmrlError):  # a full disk, say: the error that stopped the run is the one to tell
                    self.recorder.status(f"stopped: {type(error).__name__}: {error}")
        finally:
            self.close()

    def close(self) -> None:
        """Stop what the run started; safe to call twice."""
        self._started.close()
