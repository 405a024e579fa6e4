"""Find and build a plug-in by name. Folders are the registry: a file `rewards/mine.py` is the reward `mine`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_type_hints

from llmrl.errors import RecipeError

Kind = Literal["algorithm", "source", "engine", "env", "reward", "data", "benchmark"]
PACKAGES: Mapping[Kind, str] = {
    "algorithm": "llmrl.algorithms",
    "source": "llmrl.sources",
    "engine": "llmrl.engines",
    "env": "llmrl.envs",
    "reward": "llmrl.rewards",
    "data": "llmrl.data",
    "benchmark": "llmrl.eval",
}


def names(kind: Kind) -> list[str]:
    """The plug-ins that ship with llmrl: the public files of the kind's folder, sorted."""
    package = importlib.import_module(PACKAGES[kind])
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def find(kind: Kind, name: str, where: str = "") -> Any:
    """The plug-in itself: a shipped one by its file's name, any other as `package.module:Attribute`.

    Raises:
        RecipeError: there is none of that name, or its module cannot be imported.
    """
    place = f"{where}: " if where else ""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:  # somebody else's module may raise anything while it is imported
            raise RecipeError(
                f"{place}{name!r} cannot be imported: {type(error).__name__}: {error}; expected "
                "package.module:Attribute on the Python path, to which PYTHONPATH adds folders"
            ) from error
    known = names(kind)
    if name not in known:
        raise RecipeError(f"{place}unknown {kind} {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    return importlib.import_module(f"{PACKAGES[kind]}.{name}").plugin


def build(kind: Kind, spec: Mapping[str, Any] | str, where: str = "") -> Any:
    """The plug-in named by `spec["name"]`, made with the other entries as its options.

    Args:
        kind: which folder to look in.
        spec: `{"name": ..., option: value, ...}`, or the name alone. Values are converted to the type of their field.
        where: what the messages of errors start with, such as `recipes/mine.yaml: reward`.
    Raises:
        RecipeError: unknown name or option, a value of the wrong type, or options that the plug-in refuses.
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    where = where or kind
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError(f"{where}: no name; expected one of {', '.join(names(kind))}, or package.module:Attribute")
    plugin = find(kind, name, where)
    if not is_dataclass(plugin):
        if options:
            raise RecipeError(f"{where}: {name} takes no options, found {', '.join(options)}")
        return plugin
    return construct(plugin, options, where) if isinstance(plugin, type) else plugin


def construct(cls: type, options: Mapping[str, Any], where: str) -> Any:
    """A dataclass from plain values, each converted to the type of its field (`"1e-6"` is a float where one is wanted).

    Raises:
        RecipeError: an unknown or missing key, a value that does not convert, or a ValueError of the class itself.
    """
    from pydantic import TypeAdapter, ValidationError

    known = {f.name: f for f in fields(cls) if f.init}
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known:
            raise RecipeError(f"{_at(where, key)}: unknown key{did_you_mean(key, known)}; known: {', '.join(known)}")
        if is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise RecipeError(f"{_at(where, key)}: expected a section with keys, found {value!r}")
            values[key] = construct(hints[key], value, _at(where, key))  # type: ignore[arg-type]
            continue
        try:
            values[key] = TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            inside = "".join(f"[{part!r}]" for part in first["loc"])
            raise RecipeError(
                f"{_at(where, key)}{inside}: {first['msg'][0].lower()}{first['msg'][1:]}; found {value!r}"
            ) from None
    for key, entry in known.items():
        if key not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise RecipeError(f"{_at(where, key)}: missing; it has no default")
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{where}: {error}") from error


def _at(where: str, key: str) -> str:
    """`file: section.key`, as messages name a place."""
    return f"{where} {key}" if where.endswith(":") else f"{where}.{key}"


def did_you_mean(word: str, known: Any) -> str:
    """`; did you mean 'x'?` where something known is close, else nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
