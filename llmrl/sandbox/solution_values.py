"""Values as JSON and back, between processes of which the other may lie. Standard library only, and little of it."""

from __future__ import annotations

import builtins
import sys

TYPE_CHECKING = False  # no process that runs this imports the following: each start counts
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PLAIN = 1 << 53  # integers below are written as such


def pack(value: Any, other: Callable[[Any], Any]) -> Any:
    """Convert a value to JSON: instances of builtins by their builtin type; `other` converts the rest."""
    if value is None or isinstance(value, bool):
        return value
    for tag, (module, told, _) in TAGS.items():
        if module in sys.modules and isinstance(value, getattr(sys.modules[module], tag)):
            return {tag: told(value)}
    if isinstance(value, type) and vars(builtins).get(value.__name__) == value:
        return {"type": value.__name__}
    if isinstance(value, int):
        number = int.__index__(value)
        return number if abs(number) < PLAIN else {"int": hex(number)}
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {"dict": [[pack(key, other), pack(item, other)] for key, item in dict.items(value)]}
    for tag, kind in SEQUENCES.items():
        if isinstance(value, kind):
            items = [pack(item, other) for item in value]
            return items if tag == "list" else {tag: items}
    return other(value)


def unpack(packed: Any, known: Callable[[str, Any], Any]) -> Any:
    """The value again; `known` finds what was not sent as a value."""
    if isinstance(packed, list):
        return [unpack(item, known) for item in packed]
    if not isinstance(packed, dict):
        return packed
    ((tag, content),) = packed.items()
    if tag == "dict":
        return {unpack(key, known): unpack(item, known) for key, item in content}
    if tag in SEQUENCES:
        return SEQUENCES[tag](unpack(item, known) for item in content)
    if tag == "int":
        return int(content, 16)
    if tag == "type" and isinstance(kind := getattr(builtins, content), type):
        return kind
    return TAGS[tag][2](content) if tag in TAGS else known(tag, content)


def _library(module: str, name: str) -> Any:
    return getattr(__import__(module), name)


SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
TAGS: dict[
    str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]
] = {  # by name: its module, how it goes and comes
    "bytes": ("builtins", bytes.hex, bytes.fromhex),
    "complex": ("builtins", lambda z: [z.real, z.imag], lambda parts: complex(*parts)),
    "range": ("builtins", lambda r: [r.start, r.stop, r.step], lambda parts: range(*parts)),
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
}
