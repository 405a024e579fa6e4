"""The command line. What is refused is one message on standard error; a traceback is a bug."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from llmrl import __version__
from llmrl.errors import LlmrlError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at datasets.")
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; exit code 1 where something is refused, 130 after ctrl-C."""
    try:
        app()
    except LlmrlError as error:
        print(f"llmrl: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"llmrl {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Post-training and reasoning RL for language models."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A YAML file; `llmrl recipes` lists those that ship.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, such as train.seed=1")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Plain lines instead of a live view.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the recipe, print it resolved, and stop.")] = False,
) -> None:
    """Train by a recipe, alone or under `accelerate launch -m llmrl train ...`."""
    from llmrl import recipe as recipes

    made = recipes.read(recipe, [*(overrides or ()), *context.args])
    if dry_run:
        import yaml

        recipes.check(made, str(recipe))
        print(yaml.safe_dump(made.as_dict(), sort_keys=False, allow_unicode=True), end="")
        return
    from llmrl.train.loop import train as take_steps
    from llmrl.train.progress import Progress
    from llmrl.train.run import Run

    with (
        Progress(made.train.max_steps, quiet=quiet) as progress,
        Run(made, resume=resume, name=recipe.stem, on_step=progress.step) as run,
    ):
        take_steps(run)
    if run.accelerator.is_main_process:
        print(f"model: {run.folder / 'final'}\nnext: llmrl eval {run.folder / 'final'} --benchmarks gsm8k")


@app.command("recipes")
def list_recipes() -> None:
    """The recipes that ship, one path a line with its first comment."""
    from importlib.resources import files

    for path in sorted(Path(str(files("llmrl.recipes"))).rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        print(f"{path}: {first}")
