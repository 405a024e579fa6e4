"""Take the steps of a recipe from the command line, and commands that make one of TRL's options: sft, dpo, kto."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from llmrl.cli.endings import stopped_by_signals
from llmrl.cli.next_steps import after_training, serving
from llmrl.errors import RecipeError
from llmrl.recipe import Recipe, parse

Model = Annotated[str, typer.Option("--model_name_or_path", help="Model folder or hub name.")]
Rows = Annotated[
    str, typer.Option("--dataset_name", help="Training rows: a .jsonl, .json or .parquet file, or a hub name.")
]
Part = Annotated[str | None, typer.Option("--dataset_config", help="Configuration of a hub dataset.")]
Split = Annotated[str, typer.Option("--dataset_train_split", help="Split of a hub dataset.")]
Out = Annotated[Path, typer.Option("--output_dir", help="Run folder; the model is written to `final` in it.")]
Steps = Annotated[int | None, typer.Option("--max_steps", min=1, help="Number of optimiser steps, instead of epochs.")]
Epochs = Annotated[float, typer.Option("--num_train_epochs", help="Number of passes over the rows.")]
Each = Annotated[int, typer.Option("--per_device_train_batch_size", min=1, help="Rows per process and forward pass.")]
Accumulated = Annotated[int, typer.Option("--gradient_accumulation_steps", min=1, help="Batches per optimiser step.")]
Rate = Annotated[float, typer.Option("--learning_rate", help="Peak learning rate.")]
Warmup = Annotated[int, typer.Option("--warmup_steps", min=0, help="Steps over which the learning rate rises.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed.")]
Bf16 = Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16; weights stay in float32.")]
Peft = Annotated[bool, typer.Option("--use_peft", help="Train a LoRA adapter.")]
Beta = Annotated[float, typer.Option("--beta", help="Strength of the divergence from the reference.")]


def train_by(made: Recipe, name: str, chosen: bool | Path, *, quiet: bool, dry_run: bool) -> None:
    """Take a recipe's steps, until they end or a signal comes; prints the model's folder and what to type next.

    A dry run checks the recipe, and prints it resolved.
    """
    if dry_run:
        import yaml

        from llmrl.train.dry_run import require_possible

        made = require_possible(made).recipe
        print(yaml.safe_dump(made.as_dict(), sort_keys=False, allow_unicode=True), end="")
        return
    from llmrl.api.training import folder_of, take_steps
    from llmrl.run_folder.progress import Progress
    from llmrl.train.epochs import in_steps

    made = in_steps(made)
    with (
        stopped_by_signals(),
        Progress(made.train.max_steps, quiet=quiet, folder=str(folder_of(made, name))) as progress,
    ):
        run = take_steps(made, name, resume=chosen, on_step=progress.step, on_sample=progress.sample)
    if run.is_main:
        print(f"model: {run.final}\nnext: {after_training(made, run.final)}")


def sft(
    model: Model,
    rows: Rows,
    out: Out,
    config: Part = None,
    split: Split = "train",
    max_steps: Steps = None,
    epochs: Epochs = 3.0,
    each: Each = 8,
    accumulated: Accumulated = 1,
    rate: Rate = 2e-5,
    warmup: Warmup = 0,
    seed: Seed = 42,
    bf16: Bf16 = False,
) -> None:
    """Fine-tune a model on prompts and completions. The options are those of `trl sft`."""
    from llmrl.train.sft import sft as fine_tune

    given, batch = _rows(rows, config, split), _batch(each, accumulated)
    steps = max_steps or _steps(epochs, len(given), batch)
    final = out / "final"
    options: dict[str, Any] = {"learning_rate": rate, "warmup_steps": warmup, "bf16": bf16, "seed": seed}
    fine_tune(model, given, final, max_steps=steps, batch_size=batch, **options)
    if os.environ.get("RANK", "0") == "0":
        print(f"model: {final}\nnext: {serving(final)}")


def _stored(command: str, algorithm: str, about: str) -> Callable[..., None]:
    """The command that learns from stored answers by an algorithm, with TRL's options; `about` is its help."""

    def learn(
        model: Model,
        rows: Rows,
        out: Out,
        config: Part = None,
        split: Split = "train",
        max_steps: Steps = None,
        epochs: Epochs = 3.0,
        each: Each = 8,
        accumulated: Accumulated = 1,
        rate: Rate = 1e-6,
        warmup: Warmup = 0,
        beta: Beta = 0.1,
        seed: Seed = 42,
        bf16: Bf16 = False,
        use_peft: Peft = False,
        resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the recipe and exit.")] = False,
    ) -> None:
        batch = _batch(each, accumulated)
        values = {
            "model": {"policy": model, "use_peft": use_peft},
            "algorithm": {"name": algorithm, "beta": beta},
            "source": _source(rows, config, split),
            "rollout": {"prompts_per_step": batch},
            "train": {
                "learning_rate": rate,
                "warmup_steps": warmup,
                "seed": seed,
                "bf16": bf16,
                **({"max_steps": max_steps} if max_steps else {"num_train_epochs": epochs}),
                "lr_scheduler_type": "linear",  # as TRL's is
                "output_dir": str(out.parent),
                "run_name": out.name,
            },
        }
        train_by(parse(values, f"llmrl {command}"), out.name, resume, quiet=False, dry_run=dry_run)

    learn.__name__, learn.__doc__ = command, about
    return learn


dpo = _stored(
    "dpo", "preference", "Train on pairs of a chosen and a rejected answer (DPO). The options are those of `trl dpo`."
)
kto = _stored("kto", "kto", "Train on answers that are labelled good or bad (KTO). The options are those of `trl kto`.")


def _batch(each: int, accumulated: int) -> int:
    """Rows of an optimiser step, over all processes."""
    return each * accumulated * int(os.environ.get("WORLD_SIZE", "1"))


def _steps(epochs: float, rows: int, batch: int) -> int:
    """Optimiser steps of so many passes over the rows."""
    if not 0 < epochs < math.inf:
        raise RecipeError(f"--num_train_epochs {epochs}: expected above 0")
    return max(1, math.ceil(epochs * rows / batch))


def _source(rows: str, config: str | None, split: str) -> dict[str, Any]:
    if _is_file(rows):
        return {"name": "offline", "path": rows}
    return {"name": "offline", "dataset_name": rows, "dataset_config": config, "split": split}


def _rows(rows: str, config: str | None, split: str) -> list[dict[str, Any]]:
    from llmrl.datafiles.rows import file_rows, hub_rows

    read = file_rows(Path(rows)) if _is_file(rows) else hub_rows(rows, config, split)
    return [dict(row.values) for row in read]


def _is_file(rows: str) -> bool:
    """True unless it can be a name of the hub only: a file that is missing is said to be missing."""
    return Path(rows).exists() or Path(rows).suffix in (".jsonl", ".ndjson", ".json", ".parquet", ".gz", ".zst")
