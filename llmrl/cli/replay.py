"""Command `llmrl replay`: a step of a run again, from its record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.overrides import changes_of
from llmrl.cli.search_options import spec


def replay(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    step: Annotated[int, typer.Option(min=0, help="As rollouts.jsonl and metrics.jsonl count them, from 0.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Another recipe: algorithm.beta=0.1, train.learning_rate=1e-5")
    ] = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(help="The same episodes under it: rloo, or {name: ..., option: ...}. Again: more."),
    ] = None,
    algorithm_option: Annotated[
        list[str] | None, typer.Option(help="key=value of --algorithm, or of the run's own. Again: more.")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="The same episodes under it: a name, or {name: ..., option: ...}.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=0, help="Listed for each alternative, by the change of credit.")] = 10,
    json: Annotated[Path | None, typer.Option("--json", help="A file for everything, token by token.")] = None,
) -> None:
    """Repeat a step of a run without an engine; exit code 1 where it differs from its record."""
    from llmrl.recipe import read
    from llmrl.replaying.record import require_run
    from llmrl.replaying.run import alternatives_of, replay, save
    from llmrl.replaying.show import show
    from llmrl.run_folder.ownership import RECIPE

    changes = changes_of(context, overrides)
    require_run(run)
    made = read(run / RECIPE)
    named = [spec(each, "--algorithm") for each in algorithm or ()]
    others = alternatives_of(made, named, algorithm_option or (), spec(reward, "--reward"), changes)
    found = replay(run, step, others)
    show(found, tokens)
    if json is not None:
        save(found, json)
    raise typer.Exit(0 if found.same else 1)
