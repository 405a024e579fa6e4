"""Commands about recipes: `llmrl recipes`, and `llmrl recipes import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.listing import recipes
from llmrl.cli.verbosity import Commands

app = Commands(rich_markup_mode=None, help="List the recipes that ship, or convert one of TRL.")


@app.callback(invoke_without_command=True)
def list_recipes(context: typer.Context) -> None:
    """List the recipes that ship: the path of each, and its first comment."""
    if context.invoked_subcommand:
        return
    for path, first in recipes():
        print(f"{path}: {first}")


@app.command("import")
def import_recipe(
    file: Annotated[Path, typer.Argument(help="Flat YAML file for GRPO, of TRL or open-r1.")],
    processes: Annotated[
        int, typer.Option(help="Number of processes that the file was launched with; it determines the size of a step.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Overrides with the keys of the file, such as max_steps=500 top_k=null.")
    ] = None,
) -> None:
    """Print a file of TRL or open-r1 as a recipe; a key without a counterpart is refused, with the reason."""
    import yaml

    from llmrl.cli.import_trl import read

    made = read(file, processes, overrides or ())
    print(f"# From {file.name}, for {processes} processes; launch it with as many.")
    if made.left_out:
        print(f"# Left out, for they change nothing that is learned: {', '.join(made.left_out)}.")
    print(yaml.safe_dump(made.values, sort_keys=False, allow_unicode=True), end="")
