"""Checkpoints that a kill cannot spoil, and the export that everyone else can load."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from llmrl.errors import CheckpointError
from llmrl.train import state_file
from llmrl.train.learner import Learner
from llmrl.train.network import plain_model
from llmrl.train.weight_sync import adapter_weights, named_weights

VERSION = 2
"""The layout of a checkpoint's state; llmrl 0.1.0 wrote none."""
_FAILED = (OSError, RuntimeError, SafetensorError)
"""What a failed write raises: Python's, torch's and safetensors' own."""


class Checkpoints:
    """The folder `checkpoints/` of a run: `step-000050/` is complete, `*.partial` is not and is removed."""

    def __init__(self, folder: Path, accelerator: Any, keep: int) -> None:
        self._folder = folder
        self._accelerator = accelerator
        self._keep = keep

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        folders = sorted(self._folder.glob("step-??????"))
        return folders[-1] if folders else None

    def save(self, step: int, parts: Mapping[str, Mapping[str, Any]], *, best: int | None = None) -> Path:
        """Write the run after `step` steps: models, optimisers and random states of all ranks, and states of parts.

        The folder gets its name when everything is on disk; a kill before that leaves the last checkpoint in force.

        Args:
            step: steps that were taken.
            parts: the state of each part, by name: values of JSON, and arrays (`state_file`).
            best: the step whose checkpoint is kept besides the newest.
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
                processes = self._accelerator.num_processes
                state = {"version": VERSION, "step": step, "processes": processes, "parts": parts}
                state_file.write(partial, state)
                _sync(partial)
                shutil.rmtree(done, ignore_errors=True)
                partial.rename(done)
                _sync_folder(self._folder)
                self._prune(best)
        except _FAILED as error:
            raise CheckpointError(
                f"{done}: the checkpoint was not written: {_with_room(error, done)}; the last complete one is "
                f"{self.latest() or 'none'}. Make room, then start again with --resume"
            ) from error
        self._accelerator.wait_for_everyone()
        return done

    def restore(self, checkpoint: Path) -> tuple[int, dict[str, Any]]:
        """Put models, optimisers and random states back as they were; steps that were taken, and states of parts.

        Raises:
            CheckpointError: files are missing or do not fit this version, this recipe or this number of processes.
        """
        from accelerate.utils import load

        try:
            _check_version(checkpoint)
            state = state_file.read(checkpoint)
            processes = state["processes"]
            if processes != self._accelerator.num_processes:
                raise CheckpointError(
                    f"{checkpoint}: written by {processes} processes, this run has {self._accelerator.num_processes}; "
                    "launch as many, or start a new run from its exported model"
                )
            self._accelerator.load_state(str(checkpoint))
            load(checkpoint / f"random_states_{self._accelerator.process_index}.pkl")  # load_state hides its failure
        except CheckpointError:
            raise
        except Exception as error:  # torch, pickle, zipfile, json and safetensors each have errors of their own
            raise CheckpointError(
                f"{checkpoint}: cannot be resumed from: {type(error).__name__}: {_first_line(error)}; remove this "
                "folder to go on from the checkpoint before it, or from the beginning if there is none"
            ) from error
        return int(state["step"]), state["parts"]

    def _prune(self, best: int | None) -> None:
        """Keep the newest few, and the best by eval."""
        for old in sorted(self._folder.glob("step-??????"))[: -self._keep]:
            if best is None or old.name != f"step-{best:06d}":
                shutil.rmtree(old)
        for left in self._folder.glob("*.partial"):
            shutil.rmtree(left, ignore_errors=True)


def export(model: Learner, tokenizer: Any, folder: Path) -> None:
    """The policy as a plain Hugging Face folder, LoRA merged in (and beside it in `adapter/`). Collective.

    Raises:
        CheckpointError: the disk is full or not writable.
    """
    main = model.accelerator.is_main_process
    state = {name: weight.cpu() for name, weight in named_weights(model) if main}
    adapters = {name: weight.cpu() for name, weight in adapter_weights(model) if main}
    if not main:
        model.accelerator.wait_for_everyone()
        return
    network = model.net.model
    partial = folder.with_suffix(".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        plain_model(network).save_pretrained(partial, state_dict=state)
        tokenizer.save_pretrained(partial)
        if adapters:
            network.save_pretrained(partial / "adapter", state_dict=adapters)  # type: ignore[operator]
        _sync(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except _FAILED as error:
        raise CheckpointError(
            f"{folder}: the model was not written: {_with_room(error, folder)}; make room, then start again with "
            "--resume"
        ) from error
    finally:
        model.accelerator.wait_for_everyone()


def _check_version(checkpoint: Path) -> None:
    """Refuse checkpoints of another layout, which may lack a file that this one has.

    Raises:
        CheckpointError: it is one.
    """
    version = json.loads((checkpoint / state_file.JSON).read_text(encoding="utf-8")).get("version")
    if version != VERSION:
        writer = "llmrl 0.1.0" if version is None else f"another llmrl (layout {version})"
        raise CheckpointError(
            f"{checkpoint}: written by {writer}, and this one reads layout {VERSION}; resume it with the version that "
            "wrote it, or choose another train.run_name to start anew"
        )


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


def _with_room(error: Exception, path: Path) -> str:
    """Text of the error with the room left on the disk, which torch and safetensors leave out."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    return f"{_first_line(error)} ({shutil.disk_usage(there).free / 2**20:.1f} MiB are free there)"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
