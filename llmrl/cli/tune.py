"""Command `llmrl tune`: a search for the settings of a recipe."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.overrides import changes_of


def tune(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A YAML file, as for `llmrl train`.")],
    space: Annotated[Path, typer.Option(help="A YAML file: what varies, and which metrics count: docs/tune.md.")],
    out: Annotated[Path, typer.Option(help="A folder; a second call there goes on.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those of earlier calls included.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the search; those of the runs are in the space.")] = 0,
    launch: Annotated[
        str | None, typer.Option(help="What starts a run: 'accelerate launch --config_file zero2.yaml -m llmrl'.")
    ] = None,
) -> None:
    """Search a recipe's settings, reward weights say, by several metrics; write the front of the best.

    Overrides of the recipe follow, section.key=value.
    """
    from llmrl.tuning.run import Tuning
    from llmrl.tuning.space import read

    settings = {} if launch is None else {"launch": shlex.split(launch)}
    made = Tuning(recipe=recipe, space=read(space), out=out, overrides=changes_of(context), seed=seed, **settings)
    made.run(trials)
    print(f"{out / 'front.json'}  {out / 'front.csv'}  {out / 'front.png'}")
