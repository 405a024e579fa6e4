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
    """A comparison of what another part is worth, before its weight, with a number."""

    part: str  # a part of the mix, or `<part>/<name>`, what one is made of
    sign: str
    bound: float

    def __str__(self) -> str:
        return f"{self.part} {self.sign} {self.bound:g}"

    def holds(self, values: Mapping[str, float | None]) -> bool | None:
        """Whether it does; None where the other part could not be judged, or has no such name."""
        value = values.get(self.part)
        return None if value is None else HOLDS[self.sign](value, self.bound)


def gate(text: object, parts: Iterable[str], where: str) -> Gate:
    """The condition that a recipe writes.

    Raises:
        ValueError: it has another form, or speaks of a part that the mix does not have.
    """
    found = FORM.fullmatch(text) if isinstance(text, str) else None
    try:
        bound = float(found[3]) if found else math.nan
    except ValueError:
        bound = math.nan
    if found is None or not math.isfinite(bound):
        raise ValueError(f"{where}: if {text!r}; expected a part, a sign and a number, such as: numeric >= 1")
    known = list(parts)
    if of(found[1], known) is None:
        raise ValueError(
            f"{where}: if {text!r}: no part {found[1]!r}{did_you_mean(found[1], known)}; known: {', '.join(known)}"
        )
    return Gate(found[1], found[2], bound)


def of(name: str, parts: Iterable[str]) -> str | None:
    """The part that a name such as `code/tests` belongs to."""
    return next((part for part in parts if name == part or name.startswith(f"{part}/")), None)
