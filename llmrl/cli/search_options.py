"""Options of a search, as every command that searches has them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

SearchName = Annotated[str | None, typer.Option(help="Search: best_of_n:8, or {name: ..., option: ...}.")]
Judge = Annotated[str | None, typer.Option(help="Judge of the search: a reward that needs no reference answer.")]
SearchTokens = Annotated[int | None, typer.Option(help="Token budget of the search for a problem, over all branches.")]


def spec(text: str | None, option: str) -> Any:
    """The value of an option that holds a plug-in by name, or a mapping; None where it is not given.

    Raises:
        RecipeError: no YAML.
    """
    from llmrl.recipe import yaml_text

    return None if text is None else yaml_text.parse(text, option)
