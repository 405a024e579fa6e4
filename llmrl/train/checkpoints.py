"""Checkpoints that a kill cannot spoil, and the export that everyone else can load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from llmrl.critics.folder import write_heads
from llmrl.errors import CheckpointError
from llmrl.run_folder import checksums
from llmrl.run_folder.card import CARD
from llmrl.run_folder.command import beginning_anew, resuming
from llmrl.train import state_file
from llmrl.train.critic import Critic
from llmrl.train.learners import Learners
from llmrl.train.network import plain_model
from llmrl.train.parallel import gather
from llmrl.train.weight_sync import adapter_weights, full_weights, named_weights

VERSION = 3
"""The layout of a checkpoint's state; llmrl 0.1.0 wrote none."""
_PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
_FAILED = (OSError, RuntimeError, SafetensorError)
"""What a failed write raises: Python's, torch's and safetensors' own."""
Weights = dict[str, Tensor]
"""By name."""


class Checkpoints:
    """The folder `checkpoints/` of a run.

    `step-000050/` is complete. `*.partial` is not, and `*.replaced` belongs to steps that are taken again: the next
    save removes them.
    """

    def __init__(self, folder: Path, accelerator: Any, keep: int) -> None:
        self._folder = folder
        self._accelerator = accelerator
        self._keep = keep

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        return next(iter(self._newest_first()), None)

    def named(self, name: str | Path) -> Path:
        """The checkpoint of this run that a path, or its last part, names.

        Raises:
            CheckpointError: there is none.
        """
        known = [path.name for path in self._newest_first()]
        chosen = Path(name)
        elsewhere = len(chosen.parts) > 1 and chosen.resolve().parent != self._folder.resolve()
        if chosen.name not in known or elsewhere:
            raise CheckpointError(f"{name}: no checkpoint of {self._folder}; there: {', '.join(known) or 'none'}")
        return self._folder / chosen.name

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
            if main:
                processes = self._accelerator.num_processes
                state = {"version": VERSION, "step": step, "processes": processes, "parts": parts}
                state_file.write(partial, state)
            self._accelerator.wait_for_everyone()
            sums = self._flushed(partial)
            if main:
                checksums.write(partial, sums)
                _remove(done)
                partial.rename(done)
                checksums.flush(self._folder)
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

        Checkpoints of later steps are set aside. Collective.

        Raises:
            CheckpointError: files are damaged, or do not fit this version, this recipe or this number of processes.
        """
        state = self._read(checkpoint)
        self._set_aside(checkpoint)
        return int(state["step"]), state["parts"]

    def load_models(self, checkpoint: Path) -> dict[str, Any]:
        """Put models as they were; states of parts. No file changes.

        Any number of processes may, where weights are not sharded.

        Raises:
            CheckpointError: as `restore`.
        """
        parts: dict[str, Any] = self._read(checkpoint, to_go_on=False)["parts"]
        return parts

    def _read(self, checkpoint: Path, *, to_go_on: bool = True) -> dict[str, Any]:
        """Load models, optimisers and random states, and the run's own state. Collective."""
        from accelerate.utils import load

        if not (checkpoint / checksums.FILE).exists():
            _check_version(checkpoint)  # older ones have none
        self._require_intact(checkpoint)
        try:
            _check_version(checkpoint)
            state = state_file.read(checkpoint)
            processes = state["processes"]
            sharded = not (checkpoint / "model.safetensors").exists()  # DeepSpeed writes a part for each process
            if processes != self._accelerator.num_processes and (to_go_on or sharded):
                raise CheckpointError(
                    f"{checkpoint}: written by {processes} processes, this run has {self._accelerator.num_processes}; "
                    "launch as many, or start a new run from its exported model"
                )
            if sharded and self._accelerator.state.deepspeed_plugin is None:
                raise CheckpointError(
                    f"{checkpoint}: written under DeepSpeed; launch as its run was, such as accelerate launch "
                    "--config_file recipes/accelerate/zero3.yaml -m llmrl ..."
                )
            self._accelerator.load_state(str(checkpoint))
            if to_go_on:  # load_state hides its failure
                load(checkpoint / f"random_states_{self._accelerator.process_index}.pkl")
        except CheckpointError:
            raise
        except Exception as error:  # torch, pickle, zipfile, json and safetensors each have errors of their own
            raise CheckpointError(
                f"{checkpoint}: cannot be resumed from: {type(error).__name__}: {_first_line(error)}; its files are "
                "as they were written, so look at the versions of the packages (manifest.json). --resume-from goes on "
                "from an older checkpoint"
            ) from error
        return state

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("step-" + 6 * "[0-9]"), reverse=True)

    @property
    def _rank(self) -> tuple[int, int]:
        return self._accelerator.process_index, self._accelerator.num_processes

    def _flushed(self, folder: Path) -> dict[str, checksums.Sum]:
        """Put the files of all processes onto the disk, and measure them; each process its share. Collective."""
        rank, world = self._rank
        names = gather([] if rank else checksums.names(folder), world)
        return dict(gather(list(checksums.flushed(folder, names[rank::world]).items()), world))

    def _damage(self, checkpoint: Path) -> list[str]:
        """Describe how its files differ from what was written, each process its share. Collective."""
        return gather(checksums.damage(checkpoint, self._rank), self._rank[1])

    def _require_intact(self, checkpoint: Path) -> None:
        """Compare every file with what was written. Collective.

        Raises:
            CheckpointError: one differs; names it, the newest checkpoint without damage, and what to type.
        """
        damage = self._damage(checkpoint)
        if not damage:
            return
        found = "; ".join(damage[:3]) + (f"; and {len(damage) - 3} more" if len(damage) > 3 else "")
        good = next((each for each in self._newest_first() if each != checkpoint and not self._damage(each)), None)
        if good is None:
            name = f"{self._folder.parent.name}-anew"
            advice = f"There is no other without damage. To begin anew: {beginning_anew(name)}"
        else:
            advice = f"The newest without damage is {good.name}. To go on from it: {resuming(good)}"
        raise CheckpointError(f"{checkpoint}: damaged: {found}. Nothing was loaded. {advice}")

    def _set_aside(self, checkpoint: Path) -> None:
        """Rename checkpoints of later steps, which are taken again; the next save removes them."""
        if self._accelerator.is_main_process:
            for later in self._newest_first():
                if later.name > checkpoint.name:
                    _remove(later.with_suffix(".replaced"))
                    later.rename(later.with_suffix(".replaced"))
        self._accelerator.wait_for_everyone()

    def _prune(self, best: int | None) -> None:
        """Keep the newest few, and the best by eval."""
        for old in self._newest_first()[self._keep :]:
            if best is None or old.name != f"step-{best:06d}":
                _remove(old)
        for left in (*self._folder.glob("*.partial"), *self._folder.glob("*.replaced")):
            _remove(left)


def export(policies: Mapping[str, Learners], tokenizer: Any, folder: Path, card: str = "") -> None:
    """Policies as plain Hugging Face folders, LoRA merged in (and beside it in `adapter/`). Collective.

    Other models that were trained lie in folders of their names, each with its heads: `critic.model` of a next run.

    Args:
        policies: by agent: each lies in a folder of that name, and that of no agent, "", in `folder` itself.
        tokenizer: of all.
        folder: replaced, once all is written.
        card: of the model, for its README.md.
    Raises:
        CheckpointError: the disk is full or not writable.
    """
    model = policies[""].policy
    main = model.accelerator.is_main_process
    gathered = {agent: _gathered(learners, main) for agent, learners in policies.items()}
    if not main:
        model.accelerator.wait_for_everyone()
        return
    partial = folder.with_suffix(".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for agent in sorted(policies, reverse=True):  # the outermost last: its checksums are of all
            place = partial / agent
            _write_policy(policies[agent], *gathered[agent], place)
            tokenizer.save_pretrained(place)
            if card:
                (place / CARD).write_text(card, encoding="utf-8")
            checksums.write(place, checksums.flushed(place, checksums.names(place)))
        _remove(folder)
        partial.rename(folder)
    except _FAILED as error:
        raise CheckpointError(
            f"{folder}: the model was not written: {_with_room(error, folder)}; make room, then start again with "
            "--resume"
        ) from error
    finally:
        model.accelerator.wait_for_everyone()


def _copy_processors(model: Any, folder: Path) -> None:
    """Copy what prepares the other inputs of a model of several parts, such as images, which engines ask for."""
    from transformers.utils import cached_file

    if model.config.get_text_config() is model.config:
        return
    for name in _PROCESSORS:
        found = cached_file(
            model.name_or_path,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found:
            shutil.copyfile(found, folder / name)


def _gathered(learners: Learners, main: bool) -> tuple[Weights, Weights, dict[str, tuple[Weights, Weights]]]:
    """Weights of the policy, of its adapters, and of the other models, in the main process. Collective."""
    policy = learners.policy
    numbers = {name: _parts(other, main) for name, other in learners.exported.items()}
    return _held(named_weights(policy), main), _held(adapter_weights(policy), main), numbers


def _parts(model: Critic, main: bool) -> tuple[Weights, Weights]:
    """Weights of its trunk and of its heads, in the main process. Collective."""
    trunk, heads = (full_weights(part, model.sharded) for part in (model.net.model, model.net.heads))
    return _held(trunk, main), _held(heads, main)


def _held(weights: Iterable[tuple[str, Tensor]], main: bool) -> Weights:
    """The weights on the CPU, in the main process. All ranks exhaust them together."""
    return {name: weight.cpu() for name, weight in weights if main}


def _write_policy(
    learners: Learners, state: Weights, adapters: Weights, numbers: Mapping[str, tuple[Weights, Weights]], folder: Path
) -> None:
    """Write a policy as a Hugging Face folder, and into it the other models that were trained with it."""
    network = learners.policy.net.model
    plain_model(network).save_pretrained(folder, state_dict=state)
    _copy_processors(plain_model(network), folder)
    if adapters:
        network.save_pretrained(folder / "adapter", state_dict=adapters)
    for name, other in learners.exported.items():
        _write_numbers(other, *numbers[name], folder / name)


def _write_numbers(model: Critic, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor], folder: Path) -> None:
    """Write the trunk as a Hugging Face folder, and beside it the heads and their specs."""
    model.net.model.save_pretrained(folder, state_dict=dict(trunk))
    write_heads(folder, model.net.specs, heads)


def _check_version(checkpoint: Path) -> None:
    """Refuse checkpoints of another layout, which may lack a file that this one has.

    Raises:
        CheckpointError: it is one.
    """
    try:
        version = json.loads((checkpoint / state_file.JSON).read_text(encoding="utf-8")).get("version")
    except (OSError, ValueError, AttributeError, RecursionError):
        return  # damage, which is told with its way out
    if version != VERSION:
        writer = "llmrl 0.1.0" if version is None else f"another llmrl (layout {version})"
        raise CheckpointError(
            f"{checkpoint}: written by {writer}, and this one reads layout {VERSION}; resume it with the version that "
            "wrote it, or choose another train.run_name to start anew"
        )


def _remove(path: Path) -> None:
    """Remove a folder or, in its place, a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _with_room(error: Exception, path: Path) -> str:
    """Text of the error with the room left on the disk, which torch and safetensors leave out."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    return f"{_first_line(error)} ({shutil.disk_usage(there).free / 2**20:.1f} MiB are free there)"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
