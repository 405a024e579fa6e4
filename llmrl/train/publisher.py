"""Exports a run's models, and pushes them to the hub where the recipe asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

from llmrl.clients.hub_upload import HubRepo
from llmrl.errors import CheckpointError
from llmrl.recipe import TrainOptions
from llmrl.rollout.concerted import concerted
from llmrl.run_folder.card import model_card
from llmrl.train.checkpoints import export
from llmrl.train.parallel import gather
from llmrl.train.parts import FinishedStep
from llmrl.train.policies import TrainedPolicy
from llmrl.train.saver import Saver

log = logging.getLogger(__name__)
PUSHED = "pushed"
"""The folder in a run's with the model that a save has pushed."""


class Publisher:
    """Writes the models of a run as folders, with a card, and pushes them as `train.hub_strategy` says.

    The repository is made at once, so that a wrong name or token is known before the first step. A push that fails
    between two steps is a warning: the run goes on. Behind the last step it is an error; the model lies in `final/`.

    Args:
        options: `push_to_hub` and what belongs to it.
        policies: whose models are exported.
        tokenizer: of all.
        folder: of the run.
        accelerator: of the processes; the main process pushes.
        saver: knows whether a step was saved.
    Raises:
        CheckpointError: the hub is not reached, or refuses the name or the token.
    """

    def __init__(
        self,
        options: TrainOptions,
        policies: Sequence[TrainedPolicy],
        tokenizer: Any,
        folder: Path,
        accelerator: Any,
        saver: Saver,
    ) -> None:
        self._policies = policies
        self._tokenizer = tokenizer
        self._folder = folder
        self._accelerator = accelerator
        self._saver = saver
        self._strategy = options.hub_strategy
        self._repo: HubRepo | None = None
        if options.push_to_hub:
            self._repo = repo_of(options, folder.name)
            self._alone(self._create)

    def _create(self) -> None:
        assert self._repo is not None
        self._repo = self._repo.create()

    def export(self, folder: Path, steps: int) -> None:
        """Write all models, with the card of a model of so many steps. Collective."""
        main = self._accelerator.is_main_process
        card = model_card(self._folder, steps, self._repo.name if self._repo else None) if main else ""
        export({policy.agent: policy.learners for policy in self._policies}, self._tokenizer, folder, card)

    def after_step(self, finished: FinishedStep) -> None:
        """Push what was saved behind this step, unless only the end is pushed. Collective."""
        if self._repo is None or self._strategy == "end" or self._saver.saved != finished.done:
            return
        self.export(self._folder / PUSHED, finished.done)
        self._alone(partial(self._push_saved, finished.done))

    def finish(self, final: Path, steps: int) -> None:
        """Push the final model. Collective.

        Raises:
            CheckpointError: the hub refuses; says how to push it again.
        """
        if self._repo is not None:
            self._alone(partial(self._push_final, final, steps))

    def _push_saved(self, steps: int) -> None:
        assert self._repo is not None
        checkpoint = self._folder / "checkpoints" / f"step-{steps:06d}"
        try:
            self._repo.push(self._folder / PUSHED, f"{steps} steps")
            if self._strategy != "every_save":
                inside = "last-checkpoint" if self._strategy == "checkpoint" else checkpoint.name
                self._repo.push(checkpoint, f"checkpoint after {steps} steps", inside)
        except CheckpointError as error:
            log.warning(f"{error}; the run goes on, and tries again when it saves next")

    def _push_final(self, final: Path, steps: int) -> None:
        assert self._repo is not None
        try:
            self._repo.push(final, f"final model, {steps} steps")
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}. The run has ended well and its model is whole in {final}; to push it again: llmrl export "
                f"{quote(str(self._folder))} --step final --push_to_hub {self._repo.name}"
            ) from error

    def _alone(self, work: Callable[[], None]) -> None:
        """Let the main process work, and all others fail with it. Collective."""
        join = partial(gather, world=self._accelerator.num_processes)
        concerted(lambda: work() if self._accelerator.is_main_process else None, join)


def repo_of(options: TrainOptions, name: str) -> HubRepo:
    """The repository of a run, by the name of its folder where the recipe gives none.

    Raises:
        CheckpointError: that is no name of a hub.
    """
    return HubRepo(options.hub_model_id or name, options.hub_private_repo, options.hub_token, options.hub_revision)
