"""Columns kept beside stored rows, so that no model computes them again; each says which model made it.

A folder holds three files a column: `ref_logprobs.f32`, the numbers of all tokens one behind the other; `.index`, of
each row its number, where its tokens begin and end, and a checksum of their ids; `.json`, which model and which rows.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.columns import COLUMNS
from llmrl.datafiles import json_text
from llmrl.errors import DataError
from llmrl.samples import Array, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnCard:
    """Origin of a stored column."""

    column: str
    fingerprint: str  # of the model that made it, and of what else decides its numbers
    rows: str  # hash of the rows, or the name of the dataset


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column of all rows, read from disk as it is asked for."""

    card: ColumnCard
    numbers: NDArray[np.float32]
    index: NDArray[np.int64]  # (rows, 4): row, begin, end, checksum

    @classmethod
    def open(cls, path: Path) -> StoredColumn:
        """The column whose card lies at `path`.

        Raises:
            DataError: its files are missing or damaged.
        """
        try:
            card = ColumnCard(**json_text.parse(path.read_bytes(), str(path)))
            numbers = np.memmap(path.with_suffix(".f32"), np.float32, "r")
            index = np.memmap(path.with_suffix(".index"), np.int64, "r").reshape(-1, 4)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: no stored column: {error}; write it anew with `llmrl data columns`") from None
        return cls(card, numbers, index)

    def of(self, row: int, samples: Sequence[Sample]) -> list[Array]:
        """Numbers of each sample of a row, by the number of the row.

        Raises:
            DataError: the row is not in it, or its tokens are others now.
        """
        place = int(np.searchsorted(self.index[:, 0], row))
        found = place < len(self.index) and int(self.index[place, 0]) == row
        lengths = [len(sample.token_ids) for sample in samples]
        if found:
            _, begin, end, checksum = self.index[place].tolist()
            if end - begin == sum(lengths) and checksum == _checksum(samples):
                return np.split(np.asarray(self.numbers[begin:end]), np.cumsum(lengths)[:-1])
        state = "has other tokens than when it was written" if found else "was left out when it was written"
        raise DataError(
            f"stored column {self.card.column}: row {row} {state}: another tokenizer, chat template or limit of "
            "`rollout`; write it anew with `llmrl data columns`"
        )


class ColumnStore:
    """The stored columns of a folder.

    Args:
        folder: as `write` leaves it.
        rows: hash of the rows that are read now.
        fingerprints: of the models of this run, by filler; a column of another filler is taken as it is.
    Raises:
        DataError: a column is of other rows, or of another model: names both fingerprints.
    """

    def __init__(self, folder: Path, rows: str, fingerprints: Mapping[str, str]) -> None:
        self._columns = {card.stem: StoredColumn.open(card) for card in cards(folder)}
        for name, column in self._columns.items():
            if column.card.rows != rows:
                raise DataError(
                    f"{folder}: the column {name} was written for the rows {column.card.rows}, and these are {rows}; "
                    "write it anew with `llmrl data columns`, or leave source.columns out"
                )
            filler = COLUMNS[name].filler
            now = fingerprints.get(filler)
            if now is not None and column.card.fingerprint != now:
                raise DataError(
                    f"{folder}: the column {name} is stale: it was made by the model {column.card.fingerprint}, "
                    f"and the {filler} of this run is {now}; write it anew with `llmrl data columns`, or leave "
                    "source.columns out"
                )

    def attach(self, row: int, samples: Sequence[Sample]) -> list[Sample]:
        """The samples of a row with all stored columns.

        Raises:
            DataError: as `StoredColumn.of`.
        """
        filled = list(samples)
        for name, column in self._columns.items():
            numbers = column.of(row, samples)
            filled = [sample.assign(**{name: own}) for sample, own in zip(filled, numbers, strict=True)]
        return filled


def cards(folder: Path) -> list[Path]:
    """Cards of the columns of a folder."""
    return [path for path in sorted(folder.glob("*.json")) if path.stem in COLUMNS]


def stored(folder: Path) -> frozenset[str]:
    """Names of the columns of a folder.

    Raises:
        DataError: there are none.
    """
    names = frozenset(card.stem for card in cards(folder))
    if not names:
        raise DataError(f"{folder}: no stored columns; write them with `llmrl data columns`")
    return names


def write(folder: Path, made: Sequence[ColumnCard], rows: Iterable[tuple[int, Sequence[Sample]]]) -> int:
    """Write columns of rows, whole or not at all; returns the number of rows.

    Args:
        folder: made where it is missing; columns of these names that are there are replaced.
        made: a card for each column.
        rows: their numbers, rising, and their samples with the columns.
    Raises:
        DataError: the folder cannot be written.
    """
    count, begin = 0, 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            files = {card.column: _files(folder, card.column, stack) for card in made}
            for row, samples in rows:
                end = begin + sum(len(sample.token_ids) for sample in samples)
                entry = np.array([row, begin, end, _checksum(samples)], np.int64).tobytes()
                for name, (numbers, index) in files.items():
                    numbers.write(b"".join(np.asarray(sample.get(name), np.float32).tobytes() for sample in samples))
                    index.write(entry)
                count, begin = count + 1, end
        for card in made:
            path = folder / f"{card.column}.json"
            path.unlink(missing_ok=True)  # without its card a column is none
            for suffix in (".f32", ".index"):
                path.with_suffix(f"{suffix}.partial").rename(path.with_suffix(suffix))
            path.write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}; choose another folder or make room") from error
    return count


def _files(folder: Path, name: str, stack: ExitStack) -> tuple[Any, Any]:
    """Files for the numbers and the index of a column."""
    paths = [folder / f"{name}{suffix}.partial" for suffix in (".f32", ".index")]
    numbers, index = (stack.enter_context(path.open("wb")) for path in paths)
    return numbers, index


def _checksum(samples: Sequence[Sample]) -> int:
    checksum = 0
    for sample in samples:
        checksum = zlib.crc32(np.ascontiguousarray(sample.token_ids).tobytes(), checksum)
    return checksum
