"""A file of finished work that a command which was stopped picks up again, and how results are put in place."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmrl.errors import DataError
from llmrl.run_folder.jsonl import Journal, unwritable

Line = Mapping[str, Any]


class Ledger(Journal):
    """Finished lines by their `id`.

    The first line says under which settings the others were made; lines of other settings are never mixed with them.
    """

    def __init__(self, path: Path, settings: Line) -> None:
        super().__init__(path)
        self.settings = json.loads(json.dumps(settings))  # as it will be read
        self.lines: dict[str, Line] = {}

    def add(self, line: Line, keep: bool = True) -> None:
        """Add a finished one.

        Args:
            keep: False for what failed and shall be tried again by the next call.
        Raises:
            LlmrlError: it cannot be written.
        """
        if keep:
            self.write(line)
        self.lines[str(line["id"])] = line

    def _read(self, lines: Iterator[tuple[int, bytes]]) -> None:
        found = [self._line(line, number) for number, line in lines]
        if not found:
            self.write({"settings": self.settings})
            return
        if found[0].get("settings") != self.settings:
            raise DataError(
                f"{self.path}: was begun with {_different(found[0].get('settings'), self.settings)}; go on with the "
                "same options, choose another out, or delete the file to begin again"
            )
        self.lines = {str(line["id"]): line for line in found[1:]}

    def _line(self, line: bytes, number: int) -> Line:
        try:
            found = json.loads(line)
        except ValueError as error:
            raise DataError(f"{self.path}:{number}: not JSON ({error}); delete the file to begin again") from None
        if not isinstance(found, dict) or (number > 1 and "id" not in found):
            raise DataError(f"{self.path}:{number}: no line of this command; choose another out")
        return found


def put(path: Path, lines: Iterable[Line]) -> None:
    """Write all lines, or leave what is there.

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
