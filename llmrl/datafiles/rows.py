"""Rows of data from files and the hub, each with the place it came from, so that errors can name it."""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

from llmrl.clients import hub
from llmrl.datafiles import json_text
from llmrl.errors import DataError, LlmrlError
from llmrl.types import Problem

CHECKOUT = Path(__file__).resolve().parents[2]
PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""The first bytes of gzip's and of Zstandard's files, whatever their names are."""
KINDS = "expected .jsonl, .ndjson, .json, each also with .gz or .zst, or .parquet"
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


class HubDataError(DataError):
    """The rows are on a hub, which was not to be asked: see `without_hub`."""


class LeftOutError(LlmrlError):
    """A row that is no mistake and of no use, such as one with an empty answer: it is counted by its reason."""


_hub_asked: ContextVar[bool] = ContextVar("hub_asked", default=True)
Bad = Callable[[DataError], None]
"""Called with the error of a line that is broken, to go on behind it; it may raise it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of data and its place: file and line."""

    values: Mapping[str, Any]
    where: str  # file and line, or hub name and row
    index: int  # from 0
    folder: Path | None = None  # of the file, from which paths in it go out

    def text(self, *columns: str) -> str:
        """The first of these columns that the row has, as text; numbers are written out.

        Raises:
            DataError: it has none of them, or the value is empty or no text.
        """
        for column in columns:
            if self.values.get(column) is not None:
                return as_text(self.values[column], column, self.where)
        wanted = " or ".join(repr(column) for column in columns)
        null = [column for column in columns if column in self.values]
        if null:
            raise DataError(f"{self.where}: column {null[0]!r} is null; expected text or a number")
        raise DataError(f"{self.where}: no column {wanted}; found {', '.join(self.values) or 'none'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Places of a known dataset, tried in order: `path`, the data folders, the hub."""

    file: str  # below a data folder
    hub: str
    split: str
    hub_split: str | None = None  # where the hub calls it otherwise
    config: str | None = None
    path: str | None = None


def as_text(value: Any, column: str, where: str) -> str:
    """Convert a string or a number to a non-empty string.

    Raises:
        DataError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise DataError(f"{where}: column {column!r} holds {type(value).__name__}; expected text or a number")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise DataError(f"{where}: column {column!r} holds {value}, which is no number that could be right")
    text = str(value)
    if not text.strip():
        raise DataError(f"{where}: column {column!r} is empty; expected text")
    return text


def problems(rows: Iterator[Row], make: Callable[[Row], Problem]) -> Iterator[Problem]:
    """Make a problem of each row.

    Raises:
        DataError: two rows have the same id.
    """
    seen: dict[str, str] = {}
    for row in rows:
        problem = make(row)
        if problem.id in seen:
            raise DataError(f"{row.where}: id {problem.id!r} is taken by {seen[problem.id]}; expected unique ids")
        seen[problem.id] = row.where
        yield problem


def problem_row(problem: Problem) -> dict[str, Any]:
    """The row of which data `jsonl` makes this problem."""
    given = problem.info.get("answer")  # of the type that it has in the data
    answer = {"answer": given if str(given) == problem.answer else problem.answer} if problem.answer else {}
    columns = {"id": problem.id, "prompt": [dict(message) for message in problem.messages], **answer}
    return columns | {name: value for name, value in problem.info.items() if name not in columns}


def ask(question: str, instruction: str) -> list[dict[str, str]]:
    """Build the user message: the question, then the instruction on a line of its own."""
    return [{"role": "user", "content": f"{question}\n{instruction}" if instruction else question}]


def tiny(name: str) -> Path:
    """The few rows that ship with llmrl for tests and examples."""
    return Path(str(files("llmrl.data"))) / "tiny" / f"{name}.jsonl"


def folders() -> list[Path]:
    """Folders of data files: `LLMRL_DATA` if it is set, else `../shared/data` beside the checkout."""
    chosen = os.environ.get("LLMRL_DATA")
    return [Path(chosen)] if chosen else [CHECKOUT.parent / "shared" / "data"]


def known_rows(origin: Origin) -> Iterator[Row]:
    """Rows of a known dataset.

    Raises:
        DataError: it is in none of the places; names those that were tried.
    """
    if origin.path is not None:
        return file_rows(Path(origin.path))
    places = [folder / origin.file for folder in folders()]
    for place in places:
        if place.is_file():
            return file_rows(place)
    try:
        return hub_rows(origin.hub, origin.config, origin.hub_split or origin.split)
    except HubDataError:
        raise
    except DataError as error:
        raise DataError(
            f"{origin.file} was not found: no such file in {', '.join(str(p.parent) for p in places)}, and {error}; "
            f"set LLMRL_DATA to a folder that holds {origin.file}, or give the file as `path`"
        ) from error


def file_rows(path: Path, bad: Bad | None = None) -> Iterator[Row]:
    """Rows of a .jsonl, .ndjson, .json or .parquet file; all but the last may be packed by gzip or Zstandard.

    A broken line is an error; with `bad` it is handed over, and the rows behind it follow.

    Raises:
        DataError: no such file, an unknown ending, or a line that is no JSON object.
    """
    if not path.is_file():
        raise DataError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; {KINDS}")
    kind = path.name.lower().removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    if kind == "parquet":
        return _parquet(path)
    if kind in ("jsonl", "json", "ndjson"):
        return _json(path, bad)
    raise DataError(f"{path}: unknown ending; {KINDS}")


@contextmanager
def without_hub() -> Iterator[None]:
    """Read what is on this machine, and raise `HubDataError` where a hub would be asked."""
    token = _hub_asked.set(False)
    try:
        yield
    finally:
        _hub_asked.reset(token)


def hub_rows(name: str, config: str | None, split: str) -> Iterator[Row]:
    """Rows of a dataset of the Hugging Face hub, by `datasets.load_dataset`.

    Raises:
        DataError: it could not be loaded, for whatever reason.
        HubDataError: inside `without_hub`.
    """
    if not _hub_asked.get():
        raise HubDataError(f"{name}: on the hub, which was not asked")
    hub.look()
    from datasets import load_dataset

    try:
        table = load_dataset(name, config, split=split)
    except Exception as error:  # the library raises OSError, ValueError, RuntimeError and its HTTP client's own errors
        first = (str(error).splitlines() or [""])[0]
        raise DataError(f"{name} could not be loaded from the hub ({type(error).__name__}: {first})") from error
    return (Row(values, f"{name} {split} row {index}", index) for index, values in enumerate(table))


def _json(path: Path, bad: Bad | None) -> Iterator[Row]:
    """Objects of a file with one a line, or with one list of them."""
    with _unpacked(path) as data:
        file = io.TextIOWrapper(data, encoding="utf-8-sig", errors="surrogateescape")
        index = 0
        try:
            for number, line in enumerate(file, start=1):
                if index == 0 and line.lstrip().startswith("["):
                    yield from _list(path, line + file.read())
                    return
                if line.strip(f"{json_text.BOM} \t\r\n"):
                    try:
                        values = _object(line, f"{path}:{number}")
                    except DataError as error:
                        if bad is None:
                            raise
                        bad(error)
                        continue
                    yield Row(values, f"{path}:{number}", index, path.parent)
                    index += 1
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: not readable after row {index}: {error}; expected UTF-8 text") from error
    if index == 0:
        raise DataError(f"{path}: holds no rows; expected one JSON object a line")


def is_packed(path: Path) -> bool:
    """Tell by its first bytes whether a file is packed by gzip or Zstandard."""
    with path.open("rb") as raw:
        return raw.read(4).startswith(PACKED)


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked where its first ones say that it is packed."""
    with path.open("rb") as raw:
        first = raw.read(4)
        raw.seek(0)
        if first.startswith(PACKED[0]):
            with gzip.open(raw) as data:
                yield data  # type: ignore[misc]
        elif first.startswith(PACKED[1]):
            import pyarrow  # type: ignore[import-untyped]

            with pyarrow.CompressedInputStream(raw, "zstd") as data:
                yield data
        else:
            yield raw


def _object(line: str, where: str) -> Mapping[str, Any]:
    try:
        values = json_text.parse(line.rstrip(), where, unique_keys=True)
        json_text.require_characters(values, line, where)
    except DataError as error:
        whole = "" if "ends before" not in str(error) else ", or write an object a line, as `jq -c . FILE` does"
        raise DataError(f"{error}; mend or remove the line{whole}") from None
    if not isinstance(values, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(values).__name__}")
    return values


def _list(path: Path, text: str) -> Iterator[Row]:
    items = json_text.parse(text, str(path), unique_keys=True)
    json_text.require_characters(items, text, str(path))
    if not items:
        raise DataError(f"{path}: holds no rows; expected a list of JSON objects")
    for index, values in enumerate(items):
        if not isinstance(values, dict):
            raise DataError(f"{path}: item {index}: expected a JSON object, found {type(values).__name__}")
        yield Row(values, f"{path}: item {index}", index, path.parent)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    index = 0
    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches()
        for batch in batches:
            for values in batch.to_pylist():
                json_text.require_shallow(values, f"{path}: row {index}")
                yield Row(values, f"{path}: row {index}", index, path.parent)
                index += 1
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a row after row {index} holds text that is not UTF-8: {error}") from error
    except (pyarrow.ArrowException, OSError, RecursionError) as error:
        raise DataError(f"{path}: not a parquet file that can be read: {error}; copy it again") from error
    if index == 0:
        raise DataError(f"{path}: holds no rows; expected at least one")
