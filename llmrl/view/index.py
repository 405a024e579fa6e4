"""RolloutIndex of a `rollouts.jsonl`: where each line begins, and the facts by which episodes are filtered and sorted.

A gigabyte is read once, at the speed of the disk, for each line only from both of its ends; afterwards only what a run
has added. The index lies beside the file, or in the user's cache where the folder cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
from numpy.typing import NDArray

from llmrl.types import Status, Verdict

FILE = "rollouts.index"
MAGIC = b"llmrl rollouts index 1\n"
TAIL_BYTES = (8 << 20, 64 << 20, 256 << 20)
"""Bytes at the end of a file whose steps are shown while the rest is read: the least that hold a whole step."""
BUFFER = 1 << 20
LONGEST = 1 << 31
"""Bytes of a line; the index keeps lengths in 32 bits."""
VERDICTS: tuple[str, ...] = ("", *get_args(Verdict))
STATUSES: tuple[str, ...] = get_args(Status)
ROW = np.dtype(
    [
        ("offset", "<u8"),
        ("length", "<u4"),
        ("step", "<u4"),
        ("row", "<u4"),  # of its step
        ("group", "<u4"),  # of its step, in the order of the file
        ("episode", "<u4"),
        ("tokens", "<u4"),
        ("reward", "<f4"),  # NaN: none
        ("advantage", "<f4"),
        ("verdict", "u1"),
        ("status", "u1"),
        ("truncated", "u1"),
        ("known", "u1"),  # 0: a line that is no record
        ("sum", "<u4"),  # CRC-32 of the line, of the last of each step; else 0
    ]
)
Rows = NDArray[Any]
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_HEAD = re.compile(
    rb'\{"step":(\d+),"problem":' + _STRING + rb',"group":(' + _STRING + rb'),"episode":(\d+),"status":"(\w+)"'
)
_TAIL = re.compile(
    rb'\],"tokens":(\d+),"truncated":(true|false),"version":(?:null|-?\d+),"reward":([^,]+),"verdict":(null|"\w+"),'
)
_ADVANTAGE = re.compile(rb',"reason":' + _STRING + rb',"advantage":([^,}]+)')


class RolloutIndex:
    """Facts of the lines of a file, and how far they reach; grows by `extend`, and shrinks where a run went back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = np.zeros(0, ROW)
        self._group = b""  # of the last row, as it stands in the file
        self._saved = 0

    @property
    def rows(self) -> Rows:
        """(episodes,) records of `ROW`, in the order of the file."""
        return self._rows

    @property
    def end(self) -> int:
        """Bytes of the file that are known."""
        return int(self._rows["offset"][-1]) + int(self._rows["length"][-1]) if len(self._rows) else 0

    def load(self) -> None:
        """Take what an earlier viewer has found; a file that is damaged, or of other lines, is passed over."""
        for place in places(self.path):
            with suppress(OSError, ValueError):
                content = place.read_bytes()
                if content.startswith(MAGIC):
                    rows = np.frombuffer(content[len(MAGIC) :], ROW)
                    ends = rows["offset"] + rows["length"]
                    if len(rows) and rows["offset"][0] == 0 and (ends[:-1] == rows["offset"][1:]).all():
                        self._rows, self._saved = rows, len(rows)
                        return

    def save(self) -> Path | None:
        """Write the index, whole or not at all; None where neither place can be written, or nothing is new."""
        if len(self._rows) == self._saved:
            return None
        for place in places(self.path):
            partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("wb") as file:
                    file.write(MAGIC)
                    file.write(self._rows.tobytes())
                os.replace(partial, place)
            except OSError:
                with suppress(OSError):
                    partial.unlink()
                continue
            self._saved = len(self._rows)
            return place
        return None

    def extend(self, progress: Callable[[int, int], bool] = lambda _done, _size: True) -> bool:
        """Read what has been added since; True where something has changed.

        Args:
            progress: called with bytes known and bytes there, now and then; False stops.
        """
        try:
            file = self.path.open("rb", buffering=BUFFER)
        except OSError:
            changed, self._rows = bool(len(self._rows)), self._rows[:0]
            return changed
        with file:
            size = os.fstat(file.fileno()).st_size
            before = len(self._rows)
            self._forget(file, size)
            lost = len(self._rows) < before
            if self.end >= size:
                return lost
            file.seek(self.end)
            state = (int(self._rows[-1]["step"]), self._group, self._rows[-1]) if len(self._rows) else None
            parts = [self._rows]
            for part, group in _scan(file, self.end, state, lambda done: progress(done, size)):
                parts.append(part)
                self._group = group
            self._rows = np.concatenate(parts)
            return lost or len(parts) > 1

    def _forget(self, file: BinaryIO, size: int) -> None:
        """Drop rows of lines that are no more as they were: a resumed run takes steps again."""
        self._rows = self._rows[self._rows["offset"] + self._rows["length"] <= size]
        while len(self._rows):
            last = self._rows[-1]
            file.seek(int(last["offset"]))
            line = file.read(int(last["length"]))
            if last["sum"] and zlib.crc32(line) == last["sum"]:
                head = _HEAD.match(line)
                self._group = head[2] if head else _group_of(line)
                return
            ends = np.flatnonzero(self._rows["sum"][:-1])
            self._rows = self._rows[: ends[-1] + 1 if len(ends) else 0]


def tail(path: Path) -> Rows:
    """Rows of the last steps of a file, at once: of those that lie whole in its last bytes; none where none does."""
    rows = np.zeros(0, ROW)
    for window in TAIL_BYTES:
        with path.open("rb", buffering=BUFFER) as file:
            start = max(0, os.fstat(file.fileno()).st_size - window)
            file.seek(start)
            if start:
                start += len(file.readline())
            parts = [part for part, _ in _scan(file, start, None, lambda _done: True)]
        if parts:
            rows = np.concatenate(parts)
            rows = rows[rows["step"] != rows["step"][0]] if start else rows
        if len(rows):
            break
    return rows


def places(path: Path) -> tuple[Path, Path]:
    """Places of the index of a file: beside it, and in the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    return path.with_name(FILE), cache / "llmrl" / "view" / f"{name}.index"


def _scan(
    file: BinaryIO, offset: int, before: tuple[int, bytes, Any] | None, progress: Callable[[int], bool]
) -> Iterator[tuple[Rows, bytes]]:
    """Rows of the lines from an offset on, part by part, each with the group of its last row.

    Args:
        before: step, group and row of the line before, if any.
    """
    step, group, row, number = -1, b"", 0, 0
    if before is not None:
        step, group, row, number = before[0], before[1], int(before[2]["row"]) + 1, int(before[2]["group"])
    found: list[tuple[Any, ...]] = []
    last, began = b"", offset
    for line in file:
        if not line.endswith(b"\n") or len(line) >= LONGEST:
            break
        facts, name = _facts(line, step)
        if facts[0] != step:
            if found:
                found[-1] = (*found[-1][:-1], zlib.crc32(last) or 1)
            step, group, row, number = facts[0], name, 0, 0
        elif name != group:
            group, number = name, number + 1
        found.append((offset, len(line), step, row, number, *facts[1:], 0))
        row, offset, last = row + 1, offset + len(line), line
        if offset - began > 32 * BUFFER:
            if not progress(offset):
                break
            began = offset
            if len(found) > 1:  # the last row waits for its sum
                yield np.array(found[:-1], ROW), group
                found = found[-1:]
    if found:
        found[-1] = (*found[-1][:-1], zlib.crc32(last) or 1)
        yield np.array(found, ROW), group


def _facts(line: bytes, step: int) -> tuple[tuple[Any, ...], bytes]:
    """Step, episode, tokens, reward, advantage, verdict, status, truncated and known of a line, and its group."""
    head = _HEAD.match(line)
    place = line.rfind(b'],"tokens":')
    end = _TAIL.match(line, place) if place >= 0 else None
    if head is None or end is None:
        return _parsed(line, step)
    advantage = _ADVANTAGE.search(line, end.end())
    try:
        facts = (
            int(head[1]),
            int(head[3]),
            int(end[1]),
            float("nan") if end[3] == b"null" else float(end[3]),
            float(advantage[1]) if advantage else 0.0,
            0 if end[4] == b"null" else VERDICTS.index(end[4][1:-1].decode()),
            STATUSES.index(head[4].decode()),
            end[2] == b"true",
            True,
        )
    except ValueError:
        return _parsed(line, step)
    return (facts, head[2]) if max(facts[:3]) < 1 << 32 else _parsed(line, step)


def _parsed(line: bytes, step: int) -> tuple[tuple[Any, ...], bytes]:
    """The facts of a line in another order or of another writer; of one that is none, unknown ones of its step."""
    try:
        values = json.loads(line)
        reward, verdict = values.get("reward"), values.get("verdict")
        facts = (
            int(values["step"]),
            int(values["episode"]),
            int(values["tokens"]),
            float("nan") if reward is None else float(reward),
            float(values.get("advantage", 0.0)),
            VERDICTS.index(verdict or ""),
            STATUSES.index(values["status"]),
            bool(values["truncated"]),
            True,
        )
        if not (min(facts[:3]) >= 0 and max(facts[:3]) < 1 << 32):
            raise ValueError
        return facts, json.dumps(values["group"]).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return (max(step, 0), 0, 0, float("nan"), 0.0, 0, 0, False, False), b""


def _group_of(line: bytes) -> bytes:
    return _parsed(line, 0)[1]
