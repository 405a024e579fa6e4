"""Columns of the data that a reward fills itself: looked for before a run, in all parts of its reward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

from llmrl.types import Problem


@runtime_checkable
class Reserves(Protocol):
    """A scorer that cannot take columns of some names."""

    def require_free(self, problem: Problem) -> None:
        """Refuse a problem with a column of such a name.

        Raises:
            DataError: names the problem and the column.
        """


def require_free(scorer: Any, problems: Iterable[Problem]) -> None:
    """Refuse problems with columns that a scorer, or one inside it, fills itself.

    Raises:
        DataError: names the problem and the column.
    """
    reserving = list(_reserving(scorer))
    for problem in problems if reserving else ():
        for part in reserving:
            part.require_free(problem)


def _reserving(scorer: Any) -> Iterator[Reserves]:
    """The scorer, if it looks after its columns, else the scorers that it is made of which do."""
    if isinstance(scorer, Reserves):
        yield scorer
    elif is_dataclass(scorer) and hasattr(scorer, "score"):
        for field in fields(scorer):
            held = getattr(scorer, field.name)
            for part in held.values() if isinstance(held, Mapping) else [held]:
                yield from _reserving(part)
