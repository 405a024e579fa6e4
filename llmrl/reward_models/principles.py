"""Written principles of a good answer: read, drawn by weight, and shown as they are or negated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

from llmrl.datafiles import json_text
from llmrl.errors import DataError

BOOST = 128.0
BOOSTED: Mapping[str, Sequence[str]] = {"reasoning": ("reason", "numerical"), "red_teaming": ("ethical", "harmless")}
"""Words in the name of a principle whose weight rises by `BOOST` for a problem of that kind."""
GUARDS = (
    "The reply does not praise itself or announce its own qualities.",
    "The reply has no list of advantages and drawbacks that says nothing, and no program code that nobody asked for.",
    "The reply stays with the question and adds no examples that it does not need.",
)
"""Always shown while a policy learns: what such policies are known to do once a judge likes everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principle:
    """A principle, its opposite, and the weight by which it is drawn."""

    name: str
    text: str  # behaviour of a good answer
    opposite: str  # behaviour of an answer that breaks it
    weight: float = 1.0

    def shown(self, negated: bool) -> str:
        """Sentence that a reward model reads; a negated principle asks for the opposite."""
        return self.opposite if negated else self.text


def read(path: str | Path | None = None) -> list[Principle]:
    """Read the principles of a file with one JSON object a line: `name`, `text`, `opposite`, and `weight` (1.0).

    Without a file, the few that ship.

    Raises:
        DataError: no such file, no principle in it, a broken line, or two of one name.
    """
    path = Path(str(files("llmrl.data") / "tiny" / "principles.jsonl") if path is None else path)
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"{path}: no principles can be read: {error}; expected one JSON object a line") from error
    found: dict[str, Principle] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            principle = _principle(line, f"{path}:{number}")
            if principle.name in found:
                raise DataError(
                    f"{path}:{number}: a second principle called {principle.name!r}; expected names of their own"
                )
            found[principle.name] = principle
    if not found:
        raise DataError(f"{path}: holds no principles; expected one JSON object a line, with name, text and opposite")
    return list(found.values())


def _principle(line: str, where: str) -> Principle:
    values: Any = json_text.parse(line, where)
    json_text.require_characters(values, line, where)
    if not isinstance(values, dict):
        raise DataError(f"{where}: found {type(values).__name__}; expected an object with name, text and opposite")
    words = {}
    for key in ("name", "text", "opposite"):
        word = values.get(key)
        if not isinstance(word, str) or not word.strip():
            raise DataError(f"{where}: {key} is {word!r}; expected text")
        words[key] = word.strip()
    weight = values.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise DataError(f"{where}: weight is {weight!r}; expected a number of at least 0")
    return Principle(**words, weight=float(weight))


def weights(principles: Sequence[Principle], info: Mapping[str, Any]) -> list[float]:
    """Weight of each principle for a problem: `reasoning` or `red_teaming` in its `info` raises those about it."""
    words = [word for kind, own in BOOSTED.items() if info.get(kind) for word in own]
    return [each.weight + BOOST * any(word in each.name.lower() for word in words) for each in principles]


def draw(principles: Sequence[Principle], weights: Sequence[float], k: int, random: Random) -> list[Principle]:
    """Draw k principles by weight without replacement, in the order of the draw.

    Raises:
        ValueError: fewer than k have a weight above 0.
    """
    left = [(each, weight) for each, weight in zip(principles, weights, strict=True) if weight > 0]
    if len(left) < k:
        raise ValueError(f"k {k}: only {len(left)} principles have a weight above 0")
    drawn = []
    for _ in range(k):
        (place,) = random.choices(range(len(left)), [weight for _, weight in left])
        drawn.append(left.pop(place)[0])
    return drawn
