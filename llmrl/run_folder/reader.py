"""Read the logs of a run: its steps and its episodes, lazily, a line in memory at a time.

    from llmrl.run_folder import reader

    curve = [(record.step, record.metrics["reward"]) for record in reader.steps(Path("runs/mine"))]
    long = [record.trajectory for record in reader.episodes(Path("runs/mine")) if record.tokens > 1000]

Files of version 0.1.0 are read too; what they lack is empty. A last line that a kill cut off is no error: a resumed run
writes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

from llmrl.datafiles import json_text
from llmrl.errors import DataError
from llmrl.run_folder.records import METRICS, ROLLOUTS, EpisodeRecord, StepRecord, step_of

T = TypeVar("T")


def steps(path: Path) -> Iterator[StepRecord]:
    """The steps of a run, in their order.

    Args:
        path: the run's folder, or a `metrics.jsonl`.
    Raises:
        DataError: there is none, or a line is no record of a step; names file and line.
    """
    return _records(path, METRICS, StepRecord.from_json)


def episodes(path: Path, of: Container[int] | None = None) -> Iterator[EpisodeRecord]:
    """The episodes of a run, in the order of their steps; those of a group stand together.

    Args:
        path: the run's folder, or a `rollouts.jsonl`.
        of: the steps whose episodes are wanted, the lines of others are not parsed; None: all.
    Raises:
        DataError: there is none, or a line is no record of an episode; names file and line.
    """
    return _records(path, ROLLOUTS, EpisodeRecord.from_json, of)


def _records(
    path: Path, name: str, from_json: Callable[[Mapping[str, Any]], T], of: Container[int] | None = None
) -> Iterator[T]:
    file = path / name if path.is_dir() else path
    try:
        for number, line in _whole_lines(file):
            if of is not None and (step := step_of(line)) is not None and step not in of:
                continue
            try:
                yield from_json(json_text.parse(line, f"{file}:{number}"))
            except DataError as error:
                raise _unreadable(f"{error}; to drop the line: sed -i {number}d {quote(str(file))}", name) from None
            except KeyError as error:
                raise _unreadable(f"{file}:{number}: no {error} in it", name) from None
            except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                raise _unreadable(f"{file}:{number}: {type(error).__name__}: {error}", name) from None
    except FileNotFoundError:
        if path.is_dir():
            raise DataError(f"{path}: no {name}; expected the folder of a run, such as runs/demo") from None
        raise _unreadable(f"{path}: no such file", name) from None
    except OSError as error:
        raise _unreadable(f"{file}: cannot be read: {error.strerror}", name) from None


def _whole_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1 on; without the last one where it is the beginning of a record."""
    with file.open("rb") as opened:
        for number, line in enumerate(opened, start=1):
            if line.endswith(b"\n") or not _cut_off(line):
                yield number, line


def _cut_off(line: bytes) -> bool:
    """True for the beginning of a JSON object."""
    try:
        json_text.parse(line, "")
    except DataError:
        return line.startswith(b"{")
    return False


def _unreadable(found: str, name: str) -> DataError:
    return DataError(f"{found}; expected what a run writes to its {name}: see docs/run_folder.md")
