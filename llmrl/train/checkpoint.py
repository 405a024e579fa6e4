"""Checkpoints that a kill cannot spoil, and the export that everyone else can load."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrl.errors import CheckpointError
from llmrl.train.models import Model
from llmrl.train.network import plain_model
from llmrl.train.weights import named_weights


class Checkpoints:
    """The folder `checkpoints/` of a run: `step-000050/` is complete, `*.partial` is not and is removed."""

    def __init__(self, folder: Path, accelerator: Any, keep: int) -> None:
        self._folder = folder
        self._accelerator = accelerator
        self._keep = keep

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        found = sorted(self._folder.glob("step-??????"))
        return found[-1] if found else None

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Models, optimisers and random states of all ranks, and `state` as JSON: the run after `step` steps.

        The folder gets its name when everything is on disk; a kill before that leaves the last checkpoint in force.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        done = self._folder / f"step-{step:06d}"
        partial = done.with_suffix(".partial")
        main = self._accelerator.is_main_process
        try:
            if main:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            self._accelerator.wait_for_everyone()
            self._accelerator.save_state(str(partial))
            self._accelerator.wait_for_everyone()
            if main:
                (partial / "run.json").write_text(json.dumps({"step": step, **state}), encoding="utf-8")
                _sync(partial)
                shutil.rmtree(done, ignore_errors=True)
                partial.rename(done)
                _sync_folder(self._folder)
                self._prune(state.get("best_step"))
        except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
            raise CheckpointError(
                f"{done}: the checkpoint was not written: {error}; the last complete one is {self.latest() or 'none'}. "
                "Make room or choose another train.output_dir, then start again: the run resumes there"
            ) from error
        self._accelerator.wait_for_everyone()
        return done

    def restore(self, checkpoint: Path) -> dict[str, Any]:
        """Put all back as it was; the JSON state.

        Raises:
            CheckpointError: files are missing or do not fit this recipe or this number of processes.
        """
        try:
            state: dict[str, Any] = json.loads((checkpoint / "run.json").read_text(encoding="utf-8"))
            processes = state.get("processes", self._accelerator.num_processes)
            if processes != self._accelerator.num_processes:
                raise CheckpointError(
                    f"{checkpoint}: written by {processes} processes, this run has {self._accelerator.num_processes}; "
                    "launch as many, or start a new run from its exported model"
                )
            self._accelerator.load_state(str(checkpoint))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"{checkpoint}: cannot be resumed from: {error}; remove this folder to use the one before"
            ) from error
        return state

    def _prune(self, best: int | None) -> None:
        """Keep the newest few, and the best by eval."""
        for old in sorted(self._folder.glob("step-??????"))[: -self._keep]:
            if best is None or old.name != f"step-{best:06d}":
                shutil.rmtree(old)
        for left in self._folder.glob("*.partial"):
            shutil.rmtree(left, ignore_errors=True)


def export(model: Model, tokenizer: Any, folder: Path) -> None:
    """The policy as a plain Hugging Face folder, LoRA merged in (and beside it in `adapter/`). Collective.

    Raises:
        CheckpointError: the disk is full or not writable.
    """
    main = model.accelerator.is_main_process
    state = {}
    for name, weight in named_weights(model):
        if main:
            state[name] = weight.cpu()
    if not main:
        model.accelerator.wait_for_everyone()
        return
    network = model.net.model
    partial = folder.with_suffix(".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        plain_model(network).save_pretrained(partial, state_dict=state)
        tokenizer.save_pretrained(partial)
        if hasattr(network, "peft_config"):
            network.save_pretrained(partial / "adapter")  # type: ignore[operator]
        _sync(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: the model was not written: {error}; make room and export again") from error
    finally:
        model.accelerator.wait_for_everyone()


def _sync(folder: Path) -> None:
    """Every file below the folder is on the disk, not in its cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
