"""Command `llmrl tune`: a search for the settings of a recipe."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.overrides import changes_of


def tune(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="Recipe, as for `llmrl train`.")],
    space: Annotated[Path, typer.Option(help="YAML file of settings to vary and metrics to improve (docs/tune.md).")],
    out: Annotated[Path, typer.Option(help="Output folder; a second call with the same folder continues.")],
    trials: Annotated[int, typer.Option(min=1, help="Total number of trials, earlier calls included.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search; the seeds of the runs are in the space.")] = 0,
    launch: Annotated[
        str | None,
        typer.Option(help="Command that starts a run: 'accelerate launch --config_file zero2.yaml -m llmrl'."),
    ] = None,
) -> None:
    """Search over settings of a recipe by several metrics. The Pareto front is written as a table and a plot.

    Overrides of the recipe follow, section.key=value.
    """
    from llmrl.tuning.run import Tuning
    from llmrl.tuning.space import read

    settings = {} if launch is None else {"launch": shlex.split(launch)}
    made = Tuning(recipe=recipe, space=read(space), out=out, overrides=changes_of(context), seed=seed, **settings)
    made.run(trials)
    print(f"{out / 'front.json'}  {out / 'front.csv'}  {out / 'front.png'}")
