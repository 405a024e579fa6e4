"""Supervised fine-tuning on pairs of prompt and completion, by TRL's SFTTrainer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.chat import Chat, load_tokenizer
from llmrl.critics.language_model import LanguageModel, pretrained
from llmrl.errors import CheckpointError, DataError, RecipeError
from llmrl.run_folder import checksums
from llmrl.train.launched import process_arguments, trained_weights
from llmrl.train.network import plain_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

Progress = Callable[[int, float, "PreTrainedModel"], bool]
"""Called after each step with the number of steps done, the loss and the model; True ends the training."""


def sft(
    model: str | Path,
    rows: Sequence[Mapping[str, Any]],
    output_dir: str | Path,
    *,
    max_steps: int,
    learning_rate: float = 2e-5,
    batch_size: int = 16,
    warmup_steps: int = 0,
    max_length: int | None = None,
    bf16: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Fine-tune a model on the tokens of completions, and write it as a Hugging Face folder, with checksums.

    Under `accelerate launch` every process calls it, and the first writes.

    Args:
        model: a folder or a hub name.
        rows: each with `prompt` and `completion`, both strings or both lists of messages, as TRL reads them.
        output_dir: where the model and its tokenizer are written.
        max_steps: optimiser steps, each on `batch_size` rows; the rows are seen again, in another order, when they end.
        batch_size: over all processes, which share it evenly.
        learning_rate: of AdamW, constant after `warmup_steps`.
        max_length: longer rows are cut to so many tokens; None cuts nothing.
        bf16: autocast; the weights stay in float32.
        seed: of the order of the rows and of every other random draw.
        progress: called after every step; may end the training.
    Raises:
        DataError: no rows, rows without prompt or completion, or a chat template that refuses one or has no end.
        CheckpointError: the model cannot be read.
        RecipeError: the processes cannot share `batch_size`.
    """
    _check(rows)
    checksums.require_intact(model)
    try:
        policy = pretrained(LanguageModel, str(model), dtype="float32")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{model}: not a model that can be fine-tuned: {error}") from error
    tokenizer = load_tokenizer(model)
    _check_rendering(Chat(tokenizer), rows)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    arguments = {
        "max_steps": max_steps,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": _share(batch_size),
        "warmup_steps": warmup_steps,
        "max_length": max_length,
        "bf16": bf16,
        "seed": seed,
    }
    output_dir = Path(output_dir)
    trainer = _train(policy, tokenizer, rows, output_dir, arguments, progress)
    _export(trainer, tokenizer, output_dir)
    return output_dir


def _export(trainer: Any, tokenizer: Any, folder: Path) -> None:
    """Write the model, its tokenizer and their checksums. Collective."""
    state = trained_weights(trainer)
    if trainer.is_world_process_zero():
        plain_model(trainer.model).save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
        checksums.write(folder, checksums.flushed(folder, checksums.names(folder)))
    trainer.accelerator.wait_for_everyone()


def _share(batch_size: int) -> int:
    """Rows of a step for each process of the launch."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if batch_size % processes:
        raise RecipeError(
            f"batch_size {batch_size}: {processes} processes cannot share it; expected a multiple of {processes}"
        )
    return batch_size // processes


def _check(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        raise DataError("fine-tuning needs rows with `prompt` and `completion`; found none")
    for index, row in enumerate(rows):
        for column in ("prompt", "completion"):
            if not row.get(column):
                columns = ", ".join(row) or "nothing"
                raise DataError(
                    f"row {index}: `{column}` is missing or empty; expected prompt and completion; found {columns}"
                )


def _check_rendering(chat: Chat, rows: Sequence[Mapping[str, Any]]) -> None:
    """Render conversations as TRL will, which sets no limits."""
    talks = [row for row in rows if not isinstance(row["prompt"], str) and not isinstance(row["completion"], str)]
    chat.check([row["prompt"] for row in talks], add_generation_prompt=True)
    chat.check([[*row["prompt"], *row["completion"]] for row in talks])


def _train(
    policy: PreTrainedModel,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    output_dir: Path,
    arguments: Mapping[str, Any],
    progress: Progress | None,
) -> Any:
    """Train; returns the trainer."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=str(output_dir),
        lr_scheduler_type="constant_with_warmup",
        gradient_checkpointing=False,
        completion_only_loss=True,
        save_strategy="no",
        logging_strategy="no" if progress is None else "steps",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        **process_arguments(),
        **arguments,
    )
    with _quiet():
        columns = [{name: row[name] for name in ("prompt", "completion")} for row in rows]
        trainer = SFTTrainer(
            model=policy,
            args=config,
            train_dataset=Dataset.from_list(columns),
            processing_class=tokenizer,
            callbacks=[_follow(progress)] if progress else None,
        )
        trainer.remove_callback(PrinterCallback)  # prints every log where no progress bar is wanted
        trainer.train()
    return trainer


def _follow(progress: Progress) -> TrainerCallback:
    """Make a callback that reports each step and ends the training when `progress` returns True."""
    from transformers import TrainerCallback

    class Follow(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **parts: Any) -> None:
            if logs and "loss" in logs:
                control.should_training_stop |= progress(state.global_step, float(logs["loss"]), parts["model"])

    return Follow()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bars of `datasets`, which draw over ours."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
