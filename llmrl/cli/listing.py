"""Command `llmrl list`: what there is of a kind, a line each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from llmrl.errors import RecipeError
from llmrl.plugins import PACKAGES, Kind, did_you_mean, names
from llmrl.recipe.options import PLUGINS, Sections

KINDS: dict[str, Kind] = {
    "rewards": "reward",
    "data": "data",
    "benchmarks": "benchmark",
    "algorithms": "algorithm",
    "engines": "engine",
    "sources": "source",
    "envs": "env",
    "searches": "search",
    "curricula": "curriculum",
    "tools": "tool",
    "agents": "agent",
    "simulators": "simulator",
}
"""Kinds of plug-ins by what people call several of them."""


def list_names(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}, recipes, keys.")],
) -> None:
    """List plug-ins, recipes or recipe keys, one a line."""
    known = [*KINDS, "recipes", "keys"]
    if kind not in known:
        raise RecipeError(f"{kind}: no such list{did_you_mean(kind, known)}; expected one of {', '.join(known)}")
    rows = list({"recipes": recipes, "keys": keys}[kind]() if kind not in KINDS else plugins_of(KINDS[kind]))
    width = max(len(name) for name, _ in rows)
    for name, about in rows:
        print(f"{name:{width}}  {about}".rstrip())


def plugins_of(kind: Kind) -> Iterator[tuple[str, str]]:
    """Name and first line of each plug-in; none is imported."""
    for name in names(kind):
        spec = find_spec(f"{PACKAGES[kind]}.{name}")
        assert spec is not None  # `names` has found its file
        assert spec.origin is not None
        source = Path(spec.origin).read_text(encoding="utf-8")
        yield name, (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def recipes() -> Iterator[tuple[str, str]]:
    """Path and first comment of each recipe that ships."""
    from importlib.resources import files

    for path in sorted(Path(str(files("llmrl.recipes"))).rglob("*.yaml")):
        yield str(path), path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def keys() -> Iterator[tuple[str, str]]:
    """Each key of a recipe's sections, as an override names it, with its default; of plug-ins, the names."""
    hints = get_type_hints(Sections)
    for entry in fields(Sections):
        section: Any = hints[entry.name]
        if entry.name in PLUGINS:
            yield f"{entry.name}.name", ", ".join(names(entry.name))  # type: ignore[arg-type]
        elif is_dataclass(section):
            for option in fields(section):
                yield f"{entry.name}.{option.name}", _default(option)


def _default(option: Any) -> str:
    if option.default is not MISSING:
        return "null" if option.default is None else str(option.default)
    return "required" if option.default_factory is MISSING else str(option.default_factory())
