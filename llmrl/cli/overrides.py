"""Overrides behind a recipe: what looks like an option and is none is refused."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from llmrl.errors import RecipeError
from llmrl.plugins import did_you_mean


def changes_of(context: typer.Context, overrides: Sequence[str] | None = None) -> list[str]:
    """The overrides of a command that takes unknown options for them: `--train.seed=1` is one, `--dryrun` is not.

    Raises:
        RecipeError: an option that the command does not have.
    """
    changes = [*(overrides or ()), *context.args]
    options = [option for parameter in context.command.params for option in parameter.opts if option.startswith("--")]
    for text in changes:
        if text.startswith("-") and "=" not in text:
            raise RecipeError(
                f"{text}: no such option{did_you_mean(text, options)}; expected one of {', '.join(options)}, or a key "
                "of the recipe as section.key=value"
            )
    return changes
