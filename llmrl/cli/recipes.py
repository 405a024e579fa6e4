"""Commands about recipes: `llmrl recipes`, and `llmrl recipes import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.listing import recipes
from llmrl.cli.verbosity import Commands

app = Commands(rich_markup_mode=None, help="The recipes that ship, one path a line with its first comment.")


@app.callback(invoke_without_command=True)
def list_recipes(context: typer.Context) -> None:
    """The recipes that ship, one path a line with its first comment."""
    if context.invoked_subcommand:
        return
    for path, first in recipes():
        print(f"{path}: {first}")


@app.command("import")
def import_recipe(
    file: Annotated[Path, typer.Argument(help="A flat YAML file for GRPO of TRL or open-r1.")],
    processes: Annotated[int, typer.Option(help="That it was launched with: they decide the size of a step.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="With the file's keys: max_steps=500 top_k=null")
    ] = None,
) -> None:
    """Print a file of TRL's or open-r1's as a recipe; a key without a counterpart is refused, with the reason."""
    import yaml

    from llmrl.cli.import_trl import read

    made = read(file, processes, overrides or ())
    print(f"# From {file.name}, for {processes} processes; launch it with as many.")
    if made.left_out:
        print(f"# Left out, for they change nothing that is learned: {', '.join(made.left_out)}.")
    print(yaml.safe_dump(made.values, sort_keys=False, allow_unicode=True), end="")
