"""Command `llmrl export`: the model of a run's checkpoint as a folder, and which one other commands take of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.errors import CheckpointError

Step = Annotated[
    str | None,
    typer.Option(
        help="Checkpoint of a run folder: a number of steps, best (by eval) or final; by default final, else best."
    ),
]


def export(
    run: Annotated[Path, typer.Argument(help="Run folder with checkpoints.")],
    step: Annotated[
        str | None, typer.Option(help="Number of steps, or best (by evaluation); by default the best, else the newest.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; by default exported/step-N in the run folder.")
    ] = None,
) -> None:
    """Export a checkpoint as a Hugging Face model folder. Sharded ones need the launcher that wrote them."""
    from llmrl.train.run_export import EXPORTED, choose, export_checkpoint, is_run

    if not is_run(run):
        raise CheckpointError(f"{run}: no folder of a run: no recipe.yaml; expected one such as runs/mine")
    chosen = choose(run, step)
    folder = out or run / EXPORTED / chosen.name
    if folder.exists() and any(folder.iterdir()) and out is not None:
        raise CheckpointError(f"{folder}: is there already and not empty; choose another --out")
    export_checkpoint(run, chosen, folder)
    typer.echo(f"model: {folder}, of {chosen}")


def folder_of(model: str, step: str | None) -> str:
    """The model folder that a name stands for: of a run's folder the one after `step`, else the name itself.

    Raises:
        CheckpointError: a step of what is no run, or one that the run has not kept.
    """
    from llmrl.run_folder.ownership import RECIPE

    folder = Path(model)
    if (folder / RECIPE).is_file() and not (folder / "config.json").exists():
        from llmrl.train.run_export import model_of

        return str(model_of(folder, step, typer.echo))
    if step is not None:
        raise CheckpointError(f"--step {step}: {model} is no folder of a run, which keeps models of several steps")
    return model
