"""Variants of a task on the web: pages by seed, in splits that do not meet, and levels of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

Split = Literal["train", "test"]
SPLIT = 1_000_000
"""Seeds below it are for training, those from it on for tests: no page is in both."""


class TaskVariant(NamedTuple):
    """A level of a task: the share of it that is asked for, and the end of the problem's id."""

    level: int
    progress: float
    suffix: str


def check_variants(seeds: int, first: int, levels: int) -> None:
    """Refuse options of a dataset.

    Raises:
        ValueError: a number below its least, or seeds beyond their split.
    """
    if seeds < 1 or first < 0 or first + seeds > SPLIT or levels < 1:
        raise ValueError(f"seeds and levels must be at least 1, first at least 0, first + seeds at most {SPLIT}")


def seeds_of(split: Split, first: int, count: int) -> range:
    """The seeds of `count` pages, from number `first` of the split on."""
    start = first + (SPLIT if split == "test" else 0)
    return range(start, start + count)


def levels_of(levels: int, has_easier: bool) -> Iterator[TaskVariant]:
    """Yield the levels of a task, the last of which is the task itself and the only one where nothing is easier."""
    for level in range(1 if has_easier else levels, levels + 1):
        yield TaskVariant(level, level / levels, f"/{level}of{levels}" if levels > 1 else "")
