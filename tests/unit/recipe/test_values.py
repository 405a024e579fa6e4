"""Values of a wrong kind are refused when a recipe is read: each option of each section and of each plug-in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from llmrl.errors import RecipeError
from llmrl.plugins import construct, kind_of
from llmrl.recipe import Recipe
from tests.options import owners


def alternatives(hint: Any) -> Iterator[Any]:
    """The types that a value may have; `Annotated` and unions are taken apart."""
    if get_origin(hint) is Annotated:
        yield from alternatives(get_args(hint)[0])
    elif get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        for one in get_args(hint):
            yield from alternatives(one)
    else:
        yield hint


def bad_for(hint: Any) -> list[Any]:
    """Values that no type of the hint allows."""
    kinds = list(alternatives(hint))
    if Any in kinds or any(isinstance(kind, type) and getattr(kind, "_is_protocol", False) for kind in kinds):
        return []
    plain = {kind for kind in kinds if isinstance(kind, type)}
    origins = {get_origin(kind) for kind in kinds} - {None}
    sequence = plain & {list, tuple} or any(o in (list, tuple, Sequence, frozenset, set) for o in origins)
    mapping = dict in plain or any(o in (dict, Mapping) for o in origins)
    bad: list[Any] = []
    if NoneType not in plain:
        bad.append(None)
    if not sequence:
        bad += [[], ["a", 1]]
    if not mapping:
        bad.append({"low": 1})
    if not plain & {str, Path} and Literal not in origins:
        bad += ["", "many"]
    if not plain & {int, float}:
        bad += [3, 2.5] if Literal not in origins else [2.5]
    if not plain & {bool}:
        bad += [True] if Literal not in origins else []
    if plain & {bool} and not plain & {int, float}:
        bad += [7, 0.5]
    for kind in kinds:
        bad += [f"{word}x" for word in get_args(kind) if get_origin(kind) is Literal and isinstance(word, str)][:1]
    return bad


def options() -> Iterator[tuple[str, type, str, Any]]:
    """Each option: its name, and class, field and value."""
    for name, owner in [*owners(), ("Recipe", Recipe)]:
        hints = get_type_hints(owner, include_extras=True)
        for field in fields(owner):
            if field.init and kind_of(field) is None:
                yield f"{name}.{field.name}", owner, field.name, hints[field.name]


OPTIONS = {name: (owner, field, bad) for name, owner, field, hint in options() if (bad := bad_for(hint))}


@pytest.mark.parametrize(("owner", "field", "values"), OPTIONS.values(), ids=OPTIONS)
def test_a_value_of_a_wrong_kind_is_refused(owner: type, field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(RecipeError) as error:
            construct(owner, {field: value}, "options")
        message = str(error.value)
        assert f"options.{field}" in message, f"{value!r}: {message}"
        assert "\n" not in message
        assert len(message) < 600, message
