"""Command `llmrl replay`: a step of a run again, from its record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.overrides import changes_of
from llmrl.cli.search_options import spec


def replay(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    step: Annotated[int, typer.Option(min=0, help="Step as in rollouts.jsonl and metrics.jsonl, from 0.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides of the recipe, such as algorithm.beta=0.1.")
    ] = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(help="Compare with this algorithm: rloo, or {name: ..., option: ...}; may be repeated."),
    ] = None,
    algorithm_option: Annotated[
        list[str] | None, typer.Option(help="Option of the algorithm as key=value; may be repeated.")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="Compare with this reward: a name, or {name: ..., option: ...}.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=0, help="Number of tokens to list, by the change of credit.")] = 10,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write all results, token by token, to this file.")
    ] = None,
    view: Annotated[
        bool, typer.Option("--view", help="Keep all results in the run's folder, where llmrl view shows them.")
    ] = False,
) -> None:
    """Repeat a step of a run without an engine. The exit code is 1 if the step differs from its record."""
    from llmrl.recipe import read
    from llmrl.replaying.record import require_run
    from llmrl.replaying.run import alternatives_of, replay
    from llmrl.replaying.show import show
    from llmrl.run_folder.ownership import RECIPE
    from llmrl.run_folder.records import REPLAYS
    from llmrl.run_folder.report import write_report

    changes = changes_of(context, overrides)
    require_run(run)
    made = read(run / RECIPE)
    named = [spec(each, "--algorithm") for each in algorithm or ()]
    others = alternatives_of(made, named, algorithm_option or (), spec(reward, "--reward"), changes)
    found = replay(run, step, others)
    if os.environ.get("RANK", "0") != "0":  # every process has the same results; the first tells them
        raise typer.Exit(0 if found.same else 1)
    show(found, tokens)
    if json is not None:
        write_report(found.to_json(), json)
    if view:
        kept = run / REPLAYS / f"step-{step:06d}.json"
        write_report(found.to_json(), kept)
        typer.echo(f"{kept}: llmrl view {run} shows it among the episodes of step {step}")
    raise typer.Exit(0 if found.same else 1)
