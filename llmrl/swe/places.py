"""Lines of files: runs of them, and the groups in which two versions differ."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from io import StringIO
from itertools import accumulate, takewhile

CONTEXT = 3  # lines around a change
Span = tuple[str, int, int, int, int]
"""What becomes of lines (`equal`, `replace`, `delete`, `insert`), and where they begin and end on both sides."""


def terminated(text: str) -> list[str]:
    """Lines with their newlines; the last has none where the text does not end in one."""
    return list(StringIO(text, newline="\n"))


def find_lines(lines: Sequence[str], wanted: Sequence[str], overlapping: bool = False) -> list[int]:
    """Numbers, from 0, of the lines at which `wanted` stands.

    Args:
        lines, wanted: each line with its newline, `wanted` with at least one line.
        overlapping: also those that begin within another.
    """
    text, run = "".join(lines), "".join(wanted)
    places: list[int] = []
    at = text.find(run)
    starts = list(accumulate(map(len, lines), initial=0)) if at >= 0 else []
    while at >= 0:
        number = bisect_left(starts, at)
        end = number + len(wanted)
        whole = starts[number] == at and end < len(starts) and starts[end] == at + len(run)
        if whole:
            places.append(number)
        at = text.find(run, at + (len(run) if whole and not overlapping else 1))
    return places


def changed_groups(old: Sequence[str], new: Sequence[str]) -> Iterable[list[Span]]:
    """Group the differences of two versions as a unified diff does, with `CONTEXT` equal lines around each group."""
    above = _shared(zip(old, new, strict=False))
    room = min(len(old), len(new)) - above
    below = min(_shared(zip(reversed(old), reversed(new), strict=False)), room)
    matcher = SequenceMatcher(None, old[above : len(old) - below], new[above : len(new) - below])
    spans = [(kind, *(above + line for line in lines)) for kind, *lines in matcher.get_opcodes()]
    ends = (len(old) - below, len(old), len(new) - below, len(new))
    # what the matcher would find for the whole sides, which takes far longer where little changed
    matcher.opcodes = [("equal", 0, above, 0, above), *spans, ("equal", *ends)]  # type: ignore[attr-defined]
    return matcher.get_grouped_opcodes(CONTEXT) if spans else ()


def _shared(pairs: Iterable[tuple[str, str]]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
