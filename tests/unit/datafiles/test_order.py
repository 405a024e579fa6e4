"""Orders of rows: every row once an epoch, another order in each, the same behind a resume, in little memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmrl.datafiles.order import Index, Order, Permutation, Stream, Windows
from llmrl.datafiles.rows import Row, file_rows
from llmrl.errors import DataError

GROUPS = [2, 1, 3, 1, 1, 4, 2, 1, 1, 3]
"""Rows of each group."""


def write(path: Path, groups: list[int]) -> Path:
    rows = [{"g": g, "i": i} for g, size in enumerate(groups) for i in range(size)]
    path.write_text("".join(json.dumps(row) + "\n" + ("\n" if row["g"] == 3 else "") for row in rows))
    return path


def group(row: Row) -> object:
    return row.values["g"]


@pytest.fixture(params=["window", "wide", "index"])
def order(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Order]:
    path = write(tmp_path / "rows.jsonl", GROUPS)

    def make() -> Order:
        if request.param == "index":
            return Index(path, 7, tmp_path, group, lambda: file_rows(path))
        return Windows(lambda: file_rows(path), 7, 3 if request.param == "window" else 100, group)

    return make


def read(stream: Stream, count: int) -> list[tuple[int, int]]:
    """Epoch and group of the next units, each of which must be whole."""
    found = []
    for _ in range(count):
        epoch, unit = stream.next()
        name = unit[0].values["g"]
        assert [row.values for row in unit] == [{"g": name, "i": i} for i in range(GROUPS[name])]
        assert [row.index for row in unit] == [sum(GROUPS[:name]) + i for i in range(GROUPS[name])]
        found.append((epoch, name))
    return found


def test_an_epoch_has_every_group_once_in_an_order_of_its_own(order: Callable[[], Order]) -> None:
    found = read(Stream(order(), "rows"), 30)
    epochs = [[name for epoch, name in found if epoch == number] for number in range(3)]
    assert [sorted(names) for names in epochs] == [list(range(10))] * 3
    assert epochs[0] != epochs[1] != list(range(10))
    assert found == read(Stream(order(), "rows"), 30)


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 9, 10, 17])
def test_a_stream_goes_on_where_it_stood(order: Callable[[], Order], taken: int) -> None:
    through, before, after = (Stream(order(), "rows") for _ in range(3))
    whole = read(through, 30)
    read(before, taken)
    after.restore(json.loads(json.dumps(before.state())))
    assert read(after, 30 - taken) == whole[taken:]


def test_windows_of_one_keep_the_order(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", GROUPS)
    stream = Stream(Windows(lambda: file_rows(path), 0, 1, group), "rows")
    assert [name for _, name in read(stream, 20)] == [*range(10), *range(10)]


def test_an_index_names_lines_and_passes_over_broken_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 0}\n\nbroken\n{"a": 1}\n[2]\n{"a": 3}\n')
    told: list[str] = []
    index = Index(path, 0, tmp_path, None, lambda: file_rows(path, lambda error: told.append(str(error))))
    rows = sorted((row for unit in index.units(0, 0) for row in unit), key=lambda row: row.index)
    assert [(row.values["a"], row.where, row.index) for row in rows] == [
        (0, f"{path}:1", 0),
        (1, f"{path}:4", 1),
        (3, f"{path}:6", 2),
    ]
    assert [line.partition(": ")[0] for line in told] == [f"{path}:3", f"{path}:5"]
    with pytest.raises(DataError, match=r"is no .jsonl; expected one, or source.shuffle=window"):
        Index(tmp_path / "rows.parquet", 0, tmp_path, None, lambda: iter(()))


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 1000, 4097])
def test_a_permutation_gives_each_number_once(size: int) -> None:
    orders = [[Permutation(size, seed)(i) for i in range(size)] for seed in ("a", "b")]
    assert [sorted(found) for found in orders] == [list(range(size))] * 2
    if size >= 64:
        assert orders[0] != orders[1] != list(range(size))
        moved = sum(abs(orders[0][i] - i) for i in range(size)) / size
        assert moved > size / 5, "a third of the size is what chance gives"


def test_no_rows_is_an_error() -> None:
    stream = Stream(Windows(lambda: iter(()), 0, 4), "rows.jsonl")
    with pytest.raises(DataError, match=r"^rows.jsonl: no rows; expected at least one"):
        stream.next()


def test_memory_is_that_of_a_window_however_many_rows_there_are() -> None:
    def peak(count: int) -> int:
        def rows() -> Iterator[Row]:
            values: Callable[[int], dict[str, Any]] = lambda i: {"prompt": f"{i}" * 100}  # noqa: E731
            return (Row(values(i), f"rows:{i}", i) for i in range(count))

        stream = Stream(Windows(rows, 0, 500), "rows")
        tracemalloc.start()
        for _ in range(count):
            stream.next()
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(10_000) < 1.3 * peak(2_000)
