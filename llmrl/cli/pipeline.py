"""Recipes of stages on the command line: `llmrl train pipeline.yaml`, and the command that runs one stage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from llmrl.cli.endings import stopped_by_signals
from llmrl.errors import RecipeError

_GO_ON = "the same command goes on"


def train_stages(
    values: Mapping[str, Any],
    path: Path,
    overrides: Sequence[str],
    *,
    resume_from: Path | None,
    quiet: bool,
    dry_run: bool,
) -> None:
    """Run the stages of a recipe that are not done; with `dry_run` print the plan."""
    from llmrl.pipeline.plan import lines, plan
    from llmrl.pipeline.run import run
    from llmrl.pipeline.stages import parse

    pipeline = parse(values, str(path), path.stem, overrides)
    if resume_from is not None:
        raise RecipeError(f"{path}: --resume-from is for a run alone; stages go on from their newest checkpoint")
    if not dry_run:
        with stopped_by_signals(unsaved=_GO_ON):
            run(pipeline, quiet=quiet)
    if os.environ.get("RANK", "0") == "0":
        print("\n".join([f"pipeline: {pipeline.folder}", *lines(plan(pipeline))]))


def run_stage(
    folder: Annotated[Path, typer.Argument(help="Folder of a stage that `llmrl train` has prepared.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Print plain lines instead of the live view.")] = False,
) -> None:
    """Run one stage of a pipeline; `llmrl train pipeline.yaml` starts this."""
    from llmrl.pipeline.run import run_stage as work

    with stopped_by_signals(advice=_GO_ON):
        work(folder, quiet)
