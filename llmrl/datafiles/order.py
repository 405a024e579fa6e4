"""Orders of rows that a run reads again and again, without holding them: windows, or an index of places in the file."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from llmrl.datafiles import json_text
from llmrl.datafiles.rows import Row, is_packed
from llmrl.errors import DataError

Unit = list[Row]
"""Rows that are never parted: one, or those of a group that stand one behind the other."""
Key = Callable[[Row], object]
"""Name of a row's group."""


class Order(Protocol):
    """An order of the units of each epoch; the seed and the epoch decide it."""

    def units(self, epoch: int, skip: int) -> Iterator[Unit]:
        """The units of an epoch, behind the first `skip` of them."""
        ...


class Windows:
    """Shuffles rows within windows of the file's order, one window in memory at a time; any source of rows will do."""

    def __init__(self, rows: Callable[[], Iterator[Row]], seed: int, window: int, key: Key | None = None) -> None:
        self._rows, self._key = rows, key
        self._seed, self._window = seed, window

    def units(self, epoch: int, skip: int) -> Iterator[Unit]:
        number, within = divmod(skip, self._window)
        units = islice(together(self._rows(), self._key), number * self._window, None)
        while window := list(islice(units, self._window)):
            Random(f"{self._seed}/{epoch}/{number}").shuffle(window)
            yield from window[within:]
            number, within = number + 1, 0


class Index:
    """Shuffles all rows of a .jsonl file: an index file holds where each unit begins, 24 bytes of disk a unit.

    Args:
        path: not compressed, one JSON object a line.
        seed: of the order.
        folder: where the index is written; it vanishes with the process.
        key: name of a row's group.
        rows: reads the file as it stands, each broken line told once.
    Raises:
        DataError: another kind of file.
    """

    def __init__(self, path: Path, seed: int, folder: Path, key: Key | None, rows: Callable[[], Iterator[Row]]) -> None:
        if path.suffix.lower() not in (".jsonl", ".ndjson"):
            raise DataError(f"source.shuffle index: {path} is no .jsonl; expected one, or source.shuffle=window")
        if is_packed(path):
            raise DataError(f"source.shuffle index: {path} is packed; unpack it, or set source.shuffle=window")
        self._path, self._seed, self._key = path, seed, key
        folder.mkdir(parents=True, exist_ok=True)
        lines = _line_starts(path)
        with tempfile.TemporaryFile(dir=folder, suffix=".index") as file:  # lives on as long as it is mapped
            for unit in together(rows(), key):
                number = int(unit[0].where.rpartition(":")[2])
                offset = next((start for line, start in lines if line == number), None)
                if offset is None:
                    raise DataError(
                        f"source.shuffle index: {path}: its lines end by CR alone; expected LF, or CR and LF"
                    )
                file.write(np.array([offset, number, unit[0].index], np.int64).tobytes())
            file.write(np.array([path.stat().st_size, -1, -1], np.int64).tobytes())
            file.flush()
            self._places: NDArray[np.int64] = np.memmap(file, np.int64, "r").reshape(-1, 3)

    def units(self, epoch: int, skip: int) -> Iterator[Unit]:
        order = Permutation(len(self._places) - 1, f"{self._seed}/{epoch}")
        with self._path.open("rb") as file:
            for position in range(skip, len(self._places) - 1):
                yield self._read(file, order(position))

    def _read(self, file: BinaryIO, unit: int) -> Unit:
        begin, line, index = self._places[unit].tolist()
        file.seek(begin)
        rows: Unit = []
        for number, text in enumerate(file.read(int(self._places[unit + 1, 0]) - begin).splitlines(), start=line):
            values = _object(text)
            if values is not None and (self._key is not None or not rows):
                rows.append(Row(values, f"{self._path}:{number}", index + len(rows), self._path.parent))
        return rows


class Permutation:
    """A random order of the numbers below `size` that needs no memory: position to number, each number once.

    A Feistel network of four rounds permutes the next power of 4; positions that land outside are permuted again.
    """

    def __init__(self, size: int, seed: str) -> None:
        self._size = size
        self._half = max(1, (max(1, size - 1).bit_length() + 1) // 2)
        self._keys = [f"{seed}/{number}".encode() for number in range(4)]

    def __call__(self, position: int) -> int:
        mask = (1 << self._half) - 1
        while True:
            left, right = position >> self._half, position & mask
            for key in self._keys:
                digest = hashlib.blake2b(key + right.to_bytes(8, "big"), digest_size=8).digest()
                left, right = right, left ^ (int.from_bytes(digest, "big") & mask)
            position = left << self._half | right
            if position < self._size:
                return position


class Stream:
    """Units without end, epoch after epoch; its state is an epoch and a position in it."""

    def __init__(self, order: Order, where: str) -> None:
        self._order, self._where = order, where
        self.epoch = self.position = 0  # of the next unit
        self._units: Iterator[Unit] | None = None

    def next(self) -> tuple[int, Unit]:
        """The next unit and its epoch.

        Raises:
            DataError: there is none; or a row is broken.
        """
        while True:
            if self._units is None:
                self._units = self._order.units(self.epoch, self.position)
            unit = next(self._units, None)
            if unit is not None:
                self.position += 1
                return self.epoch, unit
            if not self.position:
                raise DataError(f"{self._where}: no rows; expected at least one")
            self.epoch, self.position, self._units = self.epoch + 1, 0, None

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.position, self._units = int(state["epoch"]), int(state["position"]), None


def together(rows: Iterator[Row], key: Key | None) -> Iterator[Unit]:
    """Units of rows: each alone, or the runs of one group."""
    if key is None:
        return ([row] for row in rows)
    return (list(unit) for _, unit in groupby(rows, key))


def _line_starts(path: Path) -> Iterator[tuple[int, int]]:
    """Each line's number, from 1, and where it begins."""
    begin = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, begin
            begin += len(line)


def _object(text: bytes) -> Mapping[str, Any] | None:
    """The object of a line; None for an empty or a broken one, which was told when the index was made."""
    try:
        values = json_text.parse(text, "", unique_keys=True)
        json_text.require_characters(values, text.decode(), "")
    except DataError:
        return None
    return values if isinstance(values, dict) else None
