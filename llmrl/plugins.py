"""Plug-ins, from their names to values and back. Folders are the registry: `rewards/mine.py` is the reward `mine`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import chain
from math import isinf, isnan
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from llmrl.errors import RecipeError

Kind = Literal[
    "algorithm",
    "source",
    "engine",
    "env",
    "reward",
    "data",
    "benchmark",
    "search",
    "curriculum",
    "agent",
    "tool",
    "simulator",
]
PACKAGES: Mapping[Kind, str] = {
    "algorithm": "llmrl.algorithms",
    "source": "llmrl.sources",
    "engine": "llmrl.engines",
    "env": "llmrl.envs",
    "reward": "llmrl.rewards",
    "data": "llmrl.data",
    "benchmark": "llmrl.eval",
    "search": "llmrl.search",
    "curriculum": "llmrl.curricula",
    "agent": "llmrl.agents",
    "tool": "llmrl.tools",
    "simulator": "llmrl.simulators",
}

ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "reward": {
        "accuracy_reward": "math_verify, or TRL's own as trl.rewards:accuracy_reward",
        "reasoning_accuracy_reward": "math_verify, or TRL's own as trl.rewards:reasoning_accuracy_reward",
        "think_format_reward": "format, or TRL's own as trl.rewards:think_format_reward",
        "get_soft_overlong_punishment": "soft_overlong",
        "get_cosine_scaled_reward": "cosine_length",
        "get_repetition_penalty_reward": "repetition",
        **dict.fromkeys(("accuracy", "tag_count", "reasoning_steps", "repetition_penalty"), "open_r1"),
    },
    "algorithm": {
        **dict.fromkeys(("dapo", "dr_grpo", "gspo", "cispo"), "grpo with options, as recipes/tiny has them"),
        **dict.fromkeys(("dpo", "ipo", "simpo", "orpo", "cpl"), "preference, whose loss_type sigmoid is DPO"),
        **dict.fromkeys(("vapo", "vc_ppo"), "ppo with options, as recipes/tiny/vapo.yaml has them"),
        "sft": "bc, or the command `llmrl sft`",
    },
}
"""What plug-ins are called here that are known by other names, or in other toolkits."""
_HOLDS = "llmrl.plugins"
_SECRET = "llmrl.secret"
MAY_BE_INFINITE = "may be infinite"
"""Mark of a type, in `Annotated`, whose numbers `construct` does not ask to be finite."""


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
                "package.module:Attribute in the working folder or on the Python path, to which PYTHONPATH adds folders"
            ) from error
    known = names(kind)
    if name not in known:
        other = ELSEWHERE.get(kind, {}).get(name)
        meant = f"; expected {other}" if other else did_you_mean(name, known)
        raise RecipeError(f"{place}unknown {kind} {name!r}{meant}; known: {', '.join(known)}")
    return importlib.import_module(f"{PACKAGES[kind]}.{name}").plugin


def build(kind: Kind, spec: Mapping[str, Any] | str, where: str = "") -> Any:
    """The plug-in named by `spec["name"]`, made with the other entries as its options.

    Args:
        kind: which folder to look in.
        spec: `{"name": ..., option: value, ...}`, or the name alone. Values are converted to the type of their field.
            A plug-in that is built already is returned as it is.
        where: what the messages of errors start with, such as `recipes/mine.yaml: reward`.
    Raises:
        RecipeError: unknown name or option, a value of the wrong type, or options that the plug-in refuses.
    """
    where = where or kind
    if is_dataclass(spec) and not isinstance(spec, type):
        return spec
    named = spec if not isinstance(spec, Mapping) else spec.get("name")
    if callable(named):
        at = f"{getattr(named, '__module__', '')}:{getattr(named, '__qualname__', 'name')}"
        raise RecipeError(
            f"{where}: the name is a {type(named).__name__} itself; expected its place as text, such as {at!r}, or in "
            f"Python the plug-in in place of its spec: {kind}={getattr(named, '__name__', 'it')}"
        )
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError(f"{where}: no name; expected one of {', '.join(names(kind))}, or package.module:Attribute")
    plugin = find(kind, name, where)
    if isinstance(plugin, type) and is_dataclass(plugin):
        return construct(plugin, options, where)
    if options:
        raise RecipeError(f"{where}: {name} takes no options, found {', '.join(options)}")
    return plugin


def spec_of(kind: Kind, value: Any) -> dict[str, Any]:
    """`build` turned round: the name of a plug-in and its options as plain values, every default spelled out."""
    return {"name": name_of(kind, value), **options_of(value)}


def written(kind: Kind, spec: Any) -> dict[str, Any]:
    """A spec, or that of a plug-in which is built already, as plain values."""
    return dict(spec) if isinstance(spec, Mapping) else spec_of(kind, spec)


def name_of(kind: Kind, value: Any) -> str:
    """The name by which `find` gives a plug-in, or the class of one: its file's, else `package.module:Attribute`.

    For what no module holds, such as a class inside a function, a name to read that finds nothing.
    """
    plugin = type(value) if is_dataclass(value) and not isinstance(value, type) else value
    named = plugin if hasattr(plugin, "__qualname__") else type(plugin)
    fallback = f"{named.__module__}:{named.__qualname__}"
    return next(chain(_shipped(kind, plugin), _attributes(plugin)), fallback)


def _shipped(kind: Kind, plugin: Any) -> Iterator[str]:
    """The files of the kind's folder, among the modules that are loaded, whose plug-in it is."""
    folder = f"{PACKAGES[kind]}."
    for path, module in sorted(sys.modules.items()):
        if path.startswith(folder) and vars(module).get("plugin") is plugin:
            yield path.removeprefix(folder)


def _attributes(plugin: Any) -> Iterator[str]:
    """`module:attribute` for where it lies: under its own name first, then in its own module, then anywhere."""
    home, own = getattr(plugin, "__module__", None), getattr(plugin, "__qualname__", None)
    if home in sys.modules and vars(sys.modules[home]).get(str(own)) is plugin:
        yield f"{home}:{own}"
    for path in sorted(sys.modules, key=lambda path: (path != home, path)):
        for attribute, value in list(vars(sys.modules[path]).items()):
            if value is plugin:
                yield f"{path}:{attribute}"


def options_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain values, fit for YAML; those that hold plug-ins as specs. None of other values.

    `construct` makes an equal value of them.
    """
    if not is_dataclass(value):
        return {}
    return {entry.name: _written(entry, getattr(value, entry.name)) for entry in fields(value) if entry.init}


def secret() -> dict[str, bool]:
    """Metadata of a dataclass's field that is never written down: `options_of` gives None for it."""
    return {_SECRET: True}


def _written(entry: Field[Any], value: Any) -> Any:
    if entry.metadata.get(_SECRET):
        return None
    kind = kind_of(entry)
    return spec_of(kind, value) if kind and value is not None else _plain(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return options_of(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, AbstractSet):
        return sorted(map(_plain, value))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(map(_plain, value))
    return str(value) if isinstance(value, Path) else value


def holds(kind: Kind) -> dict[str, Kind]:
    """Metadata of a dataclass's field that holds a plug-in: given a spec, `construct` and `build_held` build it."""
    return {_HOLDS: kind}


def kind_of(entry: Field[Any]) -> Kind | None:
    """The kind of plug-in that a field holds."""
    kind: Kind | None = entry.metadata.get(_HOLDS)
    return kind


def build_held(value: Any) -> None:
    """Build the plug-ins that a dataclass was given as specs: for its `__post_init__`, frozen or not.

    Raises:
        RecipeError: as `build`, of the field's name.
    """
    for entry in fields(value):
        kind, given = kind_of(entry), getattr(value, entry.name)
        if kind and _is_spec(given):
            object.__setattr__(value, entry.name, build(kind, given, entry.name))


def _is_spec(value: Any) -> bool:
    return isinstance(value, str | Mapping)


def construct(cls: type, options: Mapping[str, Any], where: str) -> Any:
    """A dataclass from plain values, each converted to the type of its field (`"1e-6"` is a float where one is wanted).

    Raises:
        RecipeError: an unknown or missing key, a value that does not convert or is outside of the range in its type
            (`llmrl.recipe.ranges`), or a ValueError of the class itself.
    """
    known = {f.name: f for f in fields(cls) if f.init}
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known:
            raise RecipeError(f"{_at(where, key)}: unknown key{did_you_mean(key, known)}; known: {', '.join(known)}")
        if kind := kind_of(known[key]):
            values[key] = build(kind, value, _at(where, key)) if _is_spec(value) else value
            continue
        if is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise RecipeError(f"{_at(where, key)}: expected a section with keys, found {value!r}")
            values[key] = construct(hints[key], value, _at(where, key))  # type: ignore[arg-type]
            continue
        read = converted(hints[key], value, _at(where, key))
        values[key] = tuple(read) if isinstance(known[key].default, tuple) and isinstance(read, list) else read
    for key, entry in known.items():
        if key not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise RecipeError(f"{_at(where, key)}: missing; it has no default")
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{where.removesuffix(':')}: {error}") from error


@lru_cache(maxsize=4096)
def _adapter(hint: Any) -> Any:
    """Pydantic's reader of a type."""
    from pydantic import TypeAdapter

    return TypeAdapter(hint)


def converted(kind: Any, value: Any, where: str) -> Any:
    """A plain value as a type, such as those of `llmrl.recipe.ranges`; `where` is the place that messages name.

    Raises:
        RecipeError: it does not convert, or is outside of the type's range.
    """
    from pydantic import ValidationError

    infinite = MAY_BE_INFINITE in getattr(kind, "__metadata__", ())
    _require_numbers(value, where, infinite)
    try:
        read = _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise RecipeError(f"{where}{_complaint(error.errors(), kind, value)}") from None
    _require_numbers(read, where, infinite)  # "nan" is a number, too
    _require_no_truth(value, read, where)
    return read


def _complaint(faults: Sequence[Any], hint: Any, value: Any) -> str:
    """Tell pydantic's complaint in a line: where in the value, and which word was meant, if one is close."""
    first = faults[0]
    inside = "".join(f"[{part!r}]" for part in first["loc"] if isinstance(part, int) or str(part) in str(value))
    words = [word for word in _words(hint) if isinstance(word, str)]
    meant = did_you_mean(value, words) if isinstance(value, str) else ""
    return f"{inside}: {first['msg'][0].lower()}{first['msg'][1:]}; found {value!r:.200}{meant}"


def _words(hint: Any) -> Iterator[Any]:
    """The words of a `Literal`, wherever in a type it stands."""
    for part in get_args(hint):
        yield from (part,) if get_origin(hint) is Literal else _words(part)


def _require_no_truth(value: Any, read: Any, where: str) -> None:
    """Refuse true and false where a number is wanted, which Python takes for 1 and 0.

    Raises:
        RecipeError: one of them was read as a number.
    """
    if isinstance(value, bool) and isinstance(read, int | float) and not isinstance(read, bool):
        raise RecipeError(f"{where}: expected a number; found {value!r}")
    if isinstance(value, Mapping) and isinstance(read, Mapping):
        for key in value.keys() & read.keys():
            _require_no_truth(value[key], read[key], f"{where}.{key}")
    elif isinstance(value, list | tuple) and isinstance(read, Sequence) and len(value) == len(read):
        for place, (given, made) in enumerate(zip(value, read, strict=True)):
            _require_no_truth(given, made, f"{where}[{place}]")


def _require_numbers(value: Any, where: str, infinite: bool) -> None:
    """Refuse numbers that no computation should meet: NaN, infinity, and whole numbers that no tensor holds.

    Raises:
        RecipeError: a number in the value is one of them.
    """
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _require_numbers(entry, f"{where}.{key}", infinite)
    elif isinstance(value, list | tuple):
        for place, entry in enumerate(value):
            _require_numbers(entry, f"{where}[{place}]", infinite)
    elif isinstance(value, float) and (isnan(value) or (isinf(value) and not infinite)):
        raise RecipeError(f"{where}: expected a finite number, found {value}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise RecipeError(f"{where}: expected a number of at most 64 bits, found one of {value.bit_length()}")


def _at(where: str, key: str) -> str:
    """`file: section.key`, as messages name a place."""
    return f"{where} {key}" if where.endswith(":") else f"{where}.{key}"


def did_you_mean(word: str, known: Any) -> str:
    """`; did you mean 'x'?` where something known is close, else nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
