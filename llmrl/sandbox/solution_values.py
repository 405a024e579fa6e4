"""Values as JSON and back, between processes of which the other may lie. Standard library only, and little of it."""

from __future__ import annotations

import builtins
import re
import sys

TYPE_CHECKING = False  # no process that runs this imports the following: each start counts
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PLAIN = 1 << 53  # integers below are written as such


def pack(value: Any, other: Callable[[Any], Any]) -> Any:
    """Convert a value to JSON: instances of builtins by their builtin type; `other` converts the rest."""
    kind: Any = type(value)
    if value is None or kind is str or kind is bool or kind is float:
        return value
    if isinstance(value, int):
        number = int.__index__(value)
        return number if abs(number) < PLAIN else {"int": hex(number)}
    if "numpy" in sys.modules and (told := _from_numpy(value, other)):
        return {"numpy": told}
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {"dict": [[pack(key, other), pack(item, other)] for key, item in dict.items(value)]}
    for tag, container in SEQUENCES.items():
        if isinstance(value, container):
            items = [pack(item, other) for item in value]
            return items if tag == "list" else {tag: items}
    for tag, (module, told, _) in TAGS.items():
        if module in sys.modules and isinstance(value, getattr(sys.modules[module], tag)):
            return {tag: told(value)}
    if kind in VIEWS:
        return {VIEWS[kind]: [pack(item, other) for item in value]}
    if isinstance(value, type) and vars(builtins).get(str(getattr(value, "__name__", ""))) is value:
        return {"type": getattr(value, "__name__", "")}
    collections: Any = sys.modules.get("collections")
    if collections and isinstance(value, collections.deque):
        return {"deque": [[pack(item, other) for item in value], value.maxlen]}
    return other(value)


def unpack(told: Any, known: Callable[[str, Any], Any]) -> Any:
    """Convert JSON back to the value; `known` finds objects that were not sent as values."""
    if isinstance(told, list):
        return [unpack(item, known) for item in told]
    if not isinstance(told, dict):
        return told
    ((tag, content),) = told.items()
    if tag == "dict":
        return {unpack(key, known): unpack(item, known) for key, item in content}
    if tag in SEQUENCES:
        return SEQUENCES[tag](unpack(item, known) for item in content)
    if tag == "int":
        return int(content, 16)
    if tag == "type" and isinstance(kind := getattr(builtins, content), type):
        return kind
    if tag == "deque":
        items, length = content
        return _library("collections", "deque")([unpack(item, known) for item in items], length)
    if tag == "numpy":
        return _to_numpy(content, known)
    if tag in VIEWS.values():
        items = [unpack(item, known) for item in content]
        pairs = items if tag == "items" else enumerate(items) if tag == "values" else dict.fromkeys(items)
        return getattr(dict(pairs), tag)()
    return TAGS[tag][2](content) if tag in TAGS else known(tag, content)


def renew(old: Any, new: Any) -> bool:
    """Replace a container's content by that of another of its kind, nested ones too; False where kinds differ."""
    if type(old) is not type(new):
        return False
    if isinstance(old, list):
        old[:] = [mine if renew(mine, item) else item for mine, item in zip(old, new)] + new[len(old) :]  # noqa: B905
    elif isinstance(old, dict):
        items = [(key, old[key] if key in old and renew(old[key], item) else item) for key, item in new.items()]
        old.clear()
        old.update(items)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, bytearray) or (type(old).__name__ == "ndarray" and old.shape == new.shape):
        old[:] = new
    elif type(old).__name__ == "deque":
        old.clear()
        old.extend(new)
    else:
        return False
    return True


def _from_numpy(value: Any, other: Callable[[Any], Any]) -> Any:
    """Describe an array by kind, shape and numbers; None for other values and other kinds of numbers."""
    numpy: Any = sys.modules["numpy"]
    if not isinstance(value, (numpy.ndarray, numpy.generic)) or not KIND.fullmatch(value.dtype.str):
        return None
    return [value.dtype.str, list(value.shape), pack(value.ravel().tolist(), other)]


def _to_numpy(content: Any, known: Callable[[str, Any], Any]) -> Any:
    """Make an array; a plain number of a single one where numpy is not imported yet."""
    kind, shape, items = content
    if not KIND.fullmatch(kind):
        raise ValueError(f"{kind} is no kind of number")
    if not shape and "numpy" not in sys.modules:
        return unpack(items, known)[0]
    return _library("numpy", "array")(unpack(items, known), kind).reshape(shape)[()]


def _library(module: str, name: str) -> Any:
    return getattr(__import__(module), name)


KIND = re.compile(r"[<>|](?:b1|[iu][1248]|f[248]|c(?:8|16)|U\d{1,4})")
SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
VIEWS: dict[type, str] = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
TAGS: dict[
    str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]
] = {  # by name: its module, how it goes and comes
    "bytes": ("builtins", bytes.hex, bytes.fromhex),
    "bytearray": ("builtins", bytearray.hex, bytearray.fromhex),
    "complex": ("builtins", lambda z: [z.real, z.imag], lambda parts: complex(*parts)),
    "range": ("builtins", lambda r: [r.start, r.stop, r.step], lambda parts: range(*parts)),
    "slice": ("builtins", lambda s: [s.start, s.stop, s.step], lambda parts: slice(*parts)),
    "Fraction": (
        "fractions",
        lambda f: [hex(f.numerator), hex(f.denominator)],
        lambda parts: _library("fractions", "Fraction")(*(int(part, 16) for part in parts)),
    ),
    "Decimal": ("decimal", str, lambda told: _library("decimal", "Decimal")(told)),
    "datetime": (
        "datetime",
        lambda d: d.isoformat(),
        lambda told: _library("datetime", "datetime").fromisoformat(told),
    ),
    "date": ("datetime", lambda d: d.isoformat(), lambda told: _library("datetime", "date").fromisoformat(told)),
    "time": ("datetime", lambda t: t.isoformat(), lambda told: _library("datetime", "time").fromisoformat(told)),
    "timedelta": (
        "datetime",
        lambda d: [d.days, d.seconds, d.microseconds],
        lambda parts: _library("datetime", "timedelta")(*parts),
    ),
}
