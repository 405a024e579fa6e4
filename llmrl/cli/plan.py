"""Command `llmrl plan`: what a recipe will take, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.overrides import changes_of


def plan(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A YAML file; `llmrl recipes` lists those that ship.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, such as train.bf16=true")] = None,
    gpus: Annotated[int, typer.Option(min=0, help="That train; 0: this machine's process.")] = 0,
    gpu_memory: Annotated[float, typer.Option(min=1, help="Of each, in GiB.")] = 80.0,
    gpu_tflops: Annotated[float, typer.Option(min=0.1, help="Of each in bfloat16, as its maker states.")] = 989.0,
    gpu_bandwidth: Annotated[float, typer.Option(min=1, help="Of its memory, in GB/s.")] = 3350.0,
    json: Annotated[Path | None, typer.Option("--json", help="A file for all figures.")] = None,
) -> None:
    """Tell what a run will take: memory by part, batches, tokens, time, and what looks wrong. Loads no weights."""
    from llmrl.planning.run import plan, save
    from llmrl.planning.show import show
    from llmrl.recipe import read

    made = read(recipe, changes_of(context, overrides))
    found = plan(made, gpus=gpus, gpu_memory=gpu_memory, tflops=gpu_tflops, bandwidth=gpu_bandwidth)
    show(found, made)
    if json is not None:
        save(found, json)
