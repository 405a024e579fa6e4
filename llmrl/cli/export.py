"""Command `llmrl export`: the model of a run as a folder to keep, to serve or to share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.next_steps import serving
from llmrl.errors import CheckpointError
from llmrl.run_folder.libraries import keep_in

Step = Annotated[
    str | None,
    typer.Option(
        help="Checkpoint of a run folder: a number of steps, best (by eval) or final; by default final, else best."
    ),
]


def export(
    run: Annotated[Path, typer.Argument(help="Run folder with checkpoints.")],
    step: Annotated[
        str | None,
        typer.Option(help="Number of steps, best (by evaluation) or final; by default the best, else the newest."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; by default exported/step-N in the run folder.")
    ] = None,
    adapter: Annotated[bool, typer.Option("--adapter", help="Only the LoRA adapter, as PEFT loads it.")] = False,
    merged: Annotated[bool, typer.Option("--merged", help="Only the model, without the adapter beside it.")] = False,
    push_to_hub: Annotated[
        str | None, typer.Option("--push_to_hub", help="Upload to this owner/name on the hub.")
    ] = None,
    hub_private_repo: Annotated[
        bool, typer.Option("--hub_private_repo", help="Make the repository on the hub private.")
    ] = False,
) -> None:
    """Export a run's model as a Hugging Face model folder. Sharded ones need the launcher that wrote them."""
    from llmrl.train.run_export import EXPORTED, FINAL, choose, export_checkpoint, final_of, is_run, narrowed

    if not is_run(run):
        raise CheckpointError(f"{run}: no folder of a run: no recipe.yaml; expected one such as runs/mine")
    if adapter and merged:
        raise CheckpointError("--adapter with --merged: expected one of them, or neither for both")
    chosen = final_of(run) if step == FINAL else choose(run, step)
    kind = "adapter" if adapter else "merged" if merged else ""
    folder = out or run / EXPORTED / "-".join(filter(None, (chosen.name, kind)))
    if folder.exists() and any(folder.iterdir()) and out is not None:
        raise CheckpointError(f"{folder}: is there already and not empty; choose another --out")
    keep_in(run)
    whole = chosen if step == FINAL else folder
    if step != FINAL:
        export_checkpoint(run, chosen, folder)
    if kind or whole != folder:
        narrowed(whole, folder, kind)
    typer.echo(f"model: {folder}, of {chosen}")
    if not adapter:  # which is served with the model below it
        typer.echo(f"next: {serving(folder)}")
    if push_to_hub is not None:
        from llmrl.clients.hub_upload import HubRepo

        repo = HubRepo(push_to_hub, private=hub_private_repo or None).create()
        typer.echo(f"pushed: {repo.push(folder, f'{chosen.name} of {run.name}')}")


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
