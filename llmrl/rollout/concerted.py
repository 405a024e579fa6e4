"""Agreement between the processes of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from llmrl.errors import LlmrlError, Stopped

T = TypeVar("T")
Gather = Callable[[list[Any]], list[Any]]
"""Joins lists of all processes, in the order of the processes, on each of them."""


def concerted(work: Callable[[], T], gather: Gather) -> T:
    """Do this process's part of some work, of which all must succeed. Collective.

    Raises:
        LlmrlError, Stopped: the first that any process met, by their order; raised by all, so that none waits for
            another.
    """
    own: list[BaseException] = []
    try:
        part = work()
    except (LlmrlError, Stopped) as error:
        own.append(error)
    errors = gather(own)
    if errors:
        raise errors[0]
    return part


def gathered(work: Callable[[], list[T]], gather: Gather) -> list[T]:
    """Gather the lists of all processes' work, which must succeed on all, in one exchange. Collective.

    Raises:
        LlmrlError, Stopped: as `concerted`.
    """
    own: list[Any]
    try:
        own = work()
    except (LlmrlError, Stopped) as error:
        own = [error]
    items = gather(own)
    for item in items:
        if isinstance(item, BaseException):
            raise item
    return items
