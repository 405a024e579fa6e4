"""Command `llmrl plan`: what a recipe will take, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.overrides import changes_of


def plan(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file; `llmrl recipes` lists those that ship.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Overrides, such as train.bf16=true.")] = None,
    gpus: Annotated[int, typer.Option(min=0, help="Number of training GPUs; 0: one process on this machine.")] = 0,
    gpu_memory: Annotated[float, typer.Option(min=1, help="Memory of each GPU, in GiB.")] = 80.0,
    gpu_tflops: Annotated[float, typer.Option(min=0.1, help="Peak bfloat16 TFLOPS of each GPU.")] = 989.0,
    gpu_bandwidth: Annotated[float, typer.Option(min=1, help="Memory bandwidth, in GB/s.")] = 3350.0,
    json: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Estimate memory, batches, tokens and time of a run. Warns of what looks wrong; loads no weights."""
    from llmrl.planning.run import plan
    from llmrl.planning.show import show
    from llmrl.recipe import read
    from llmrl.run_folder.report import write_report

    made = read(recipe, changes_of(context, overrides))
    found = plan(made, gpus=gpus, gpu_memory=gpu_memory, tflops=gpu_tflops, bandwidth=gpu_bandwidth)
    show(found, made)
    if json is not None:
        write_report(found.to_json(), json)
