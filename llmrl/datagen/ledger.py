"""A file of finished work, from which a stopped command resumes, and the writing of results as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmrl.datafiles import json_text
from llmrl.errors import DataError
from llmrl.run_folder.jsonl import Journal, unwritable

Line = Mapping[str, Any]


class Ledger(Journal):
    """Finished lines by their `id`.

    The first line holds the settings under which the others were made; lines of other settings are never mixed in.
    """

    def __init__(self, path: Path, settings: Line) -> None:
        super().__init__(path)
        self.settings = json.loads(json.dumps(settings))  # as it will be read
        self.lines: dict[str, Line] = {}

    def add(self, line: Line, keep: bool = True) -> None:
        """Add a finished line.

        Args:
            keep: False for a line that failed, which the next call tries again.
        Raises:
            LlmrlError: it cannot be written.
        """
        if keep:
            self.write(line)
        self.lines[str(line["id"])] = line

    def _read(self, lines: Iterator[tuple[int, bytes]]) -> None:
        parsed = [self._line(line, number) for number, line in lines]
        if not parsed:
            self.write({"settings": self.settings})
            return
        if parsed[0].get("settings") != self.settings:
            raise DataError(
                f"{self.path}: was begun with {_different(parsed[0].get('settings'), self.settings)}; go on with the "
                "same options, choose another out, or delete the file to begin again"
            )
        self.lines = {str(line["id"]): line for line in parsed[1:]}

    def _line(self, line: bytes, number: int) -> Line:
        try:
            parsed = json_text.parse(line, f"{self.path}:{number}")
        except DataError as error:
            raise DataError(f"{error}; delete the file to begin again") from None
        if not isinstance(parsed, dict) or (number > 1 and "id" not in parsed):
            raise DataError(f"{self.path}:{number}: no line of this command; choose another out")
        return parsed


def beside(out: Path, ending: str) -> Path:
    """A file of the same name with another ending: `pairs.measured.jsonl` beside `pairs.jsonl`."""
    return out.with_name(f"{out.name.removesuffix('.jsonl')}.{ending}")


def require_own(out: Path, ledger: Path) -> None:
    """Check that a file which is there was made by the command that keeps this ledger beside it.

    Raises:
        DataError: it was not, and would be replaced.
    """
    if out.exists() and not ledger.exists():
        raise DataError(
            f"{out}: is there already, and {ledger.name}, which this command keeps beside its rows, is not; nothing "
            "was changed. Choose another out, or remove the file"
        )


def put(path: Path, lines: Iterable[Line]) -> None:
    """Write all lines, or leave the file as it is.

    Raises:
        LlmrlError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        os.replace(partial, path)
    except OSError as error:
        raise unwritable(path, error) from error


def _different(before: Any, now: Line) -> str:
    if not isinstance(before, dict):
        return "other settings"
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(f"{key} {before.get(key)!r:.80}, now {now.get(key)!r:.80}" for key in keys[:3])
