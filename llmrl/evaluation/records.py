"""The file that an evaluation grows line by line, and picks up again after it was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmrl.datafiles import json_text
from llmrl.errors import DataError, LlmrlError
from llmrl.run_folder.jsonl import Journal, unwritable

Key = tuple[str, int]  # problem id, sample number


class Records(Journal):
    """Judged completions by problem and sample."""

    writer = "evaluation"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.rows: dict[Key, Mapping[str, Any]] = {}

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record.

        Raises:
            LlmrlError: it cannot be written.
        """
        self.write(record)
        self.rows[record["problem"], record["sample"]] = record

    def settle(self, keys: Iterable[Key]) -> None:
        """Put the file in this order, independent of timing; other records follow. Nothing is added later.

        Raises:
            LlmrlError: it cannot be written.
        """
        ordered = {key: self.rows[key] for key in keys} | self.rows
        if list(ordered) != list(self.rows):
            self.rewrite(ordered.values())

    def _read(self, lines: Iterator[tuple[int, bytes]]) -> None:
        for number, line in lines:
            try:
                record = json_text.parse(line, "the line")
                self.rows[record["problem"], record["sample"]] = record
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{self.path}:{number}: no record of an evaluation ({error}); expected what llmrl wrote; remove "
                    "the line to have it done again"
                ) from None


def claim(out: Path, name: str, config: Mapping[str, Any], begun: bool) -> None:
    """Write the settings of a benchmark into `config.json`, or check that they are those it was begun with.

    Args:
        out: the folder.
        name: the benchmark.
        config: what decides the completions; `asked` in it (how many problems and samples) may change.
        begun: whether there are completions already.
    Raises:
        LlmrlError: the completions were made under other settings, and each is named with both values; or the file
            is not an evaluation's.
    """
    path = out / "config.json"
    config = json.loads(json.dumps(config, default=str))
    stored = settings_in(out)
    if begun:
        old = stored.get(name)
        if not isinstance(old, dict):
            raise LlmrlError(f"{out}: completions of {name} without settings in {path.name}; choose another output")
        changed = sorted(key for key in {*config, *old} - {"asked"} if config.get(key) != old.get(key))
        if changed:
            changes = "; ".join(f"{key} was {old.get(key)!r}, now {config.get(key)!r}" for key in changed)
            raise LlmrlError(
                f"{out}: {name} was begun with other settings: {changes}. Choose another output, or remove "
                f"{name}.jsonl there to begin anew"
            )
    write_json(path, {**stored, name: config})


def settings_in(out: Path) -> dict[str, Any]:
    """The settings of the benchmarks in a folder, where evaluations may write; none of a new one.

    Raises:
        LlmrlError: it is no folder, cannot be written, or is another program's.
    """
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        found = "a folder that cannot be written" if there.is_dir() else "a file"
        raise LlmrlError(f"{there}: {found}; choose another output, a folder")
    path = out / "config.json"
    stored = read_json(path)
    foreign = sorted(key for key, value in stored.items() if not (isinstance(value, dict) and "player" in value))
    if foreign:
        raise LlmrlError(
            f"{path}: holds {', '.join(foreign[:3])}, which no evaluation writes (a model's folder?); nothing was "
            "changed. Choose another output"
        )
    return stored


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no file.

    Raises:
        DataError: it is no JSON object.
    """
    if not path.exists():
        return {}
    try:
        stored = json_text.parse(path.read_bytes(), str(path))
    except (OSError, DataError) as error:
        raise DataError(f"{error}; remove it or choose another output") from None
    if not isinstance(stored, dict):
        raise DataError(f"{path}: expected an object, found {type(stored).__name__}; choose another output")
    return stored


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file as a whole, never halfway.

    Raises:
        LlmrlError: it cannot be written.
    """
    draft = path.with_suffix(".partial")
    try:
        draft.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise unwritable(path, error) from error
