"""The option `--verbose` of every command: what libraries print is shown, in place of kept in a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from llmrl.run_folder import libraries

_Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show what libraries print; else it goes to libraries.log in the folder.")
]


class Commands(typer.Typer):
    """A group of commands, each of which takes `--verbose`."""

    def command(self, *names: Any, **options: Any) -> Callable[[Any], Any]:
        """Register a command, as typer does; returns the function as it was."""
        register = super().command(*names, **options)

        def decorate(function: Any) -> Any:
            register(_with_verbose(function))
            return function

        return decorate


def _with_verbose(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def command(*given: Any, verbose: bool = False, **options: Any) -> Any:
        if verbose:
            libraries.shown()
        return function(*given, **options)

    told = inspect.signature(function, eval_str=True)
    added = inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_Verbose)
    command.__signature__ = told.replace(parameters=[*told.parameters.values(), added])  # type: ignore[attr-defined]
    command.__annotations__ = {name: each.annotation for name, each in command.__signature__.parameters.items()}  # type: ignore[attr-defined]
    del command.__wrapped__  # type: ignore[attr-defined]
    return command
