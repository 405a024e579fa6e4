"""Conditions under which a part of a mix counts: `numeric >= 1`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from llmrl.plugins import did_you_mean

HOLDS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
FORM = re.compile(r"\s*(\S+)\s+(>=|>|<=|<)\s+(\S+)\s*")


@dataclass(frozen=True)
class Gate:
    """A comparison of another part's value, before its weight, with a number."""

    part: str  # a part of the mix, or `<part>/<name>`, a part of one
    sign: str
    bound: float

    def __str__(self) -> str:
        return f"{self.part} {self.sign} {self.bound:g}"

    def holds(self, values: Mapping[str, float | None]) -> bool | None:
        """Evaluate the condition; None where the other part has no value, or there is no such part."""
        value = values.get(self.part)
        return None if value is None else HOLDS[self.sign](value, self.bound)


def gate(text: object, parts: Iterable[str], where: str) -> Gate:
    """Parse a condition of a recipe.

    Raises:
        ValueError: it has another form, or names a part that the mix does not have.
    """
    match = FORM.fullmatch(text) if isinstance(text, str) else None
    try:
        bound = float(match[3]) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise ValueError(f"{where}: if {text!r}; expected a part, a sign and a number, such as: numeric >= 1")
    known = list(parts)
    if of(match[1], known) is None:
        raise ValueError(
            f"{where}: if {text!r}: no part {match[1]!r}{did_you_mean(match[1], known)}; known: {', '.join(known)}"
        )
    return Gate(match[1], match[2], bound)


def of(name: str, parts: Iterable[str]) -> str | None:
    """The part that a name such as `code/tests` belongs to."""
    return next((part for part in parts if name == part or name.startswith(f"{part}/")), None)
