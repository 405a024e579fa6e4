"""A file of finished work that a command which was stopped picks up again, and how results are put in place."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from llmrl.errors import DataError, LlmrlError

Line = Mapping[str, Any]


class Ledger:
    """Finished lines by their `id`. Use as a context manager; one process at a time may hold the file.

    The first line says under which settings the others were made; lines of other settings are never mixed with them.
    """

    def __init__(self, path: Path, settings: Line) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))  # as it will be read
        self.lines: dict[str, Line] = {}

    def __enter__(self) -> Self:
        """Read what is there; a last line that was half written is cut off, to be done again.

        Raises:
            LlmrlError: the file cannot be written, or another process is writing it.
            DataError: it was begun under other settings, or a line is broken.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(self.path, "a+b")  # closed by __exit__
        except OSError as error:
            raise _unwritable(self.path, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError:
            self._file.close()
            raise LlmrlError(
                f"{self.path}: another process is writing it; wait for it, or choose another out"
            ) from None
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def add(self, line: Line, keep: bool = True) -> None:
        """Add a finished one and hand it to the operating system, so that it survives this process.

        Args:
            keep: False for what failed and shall be tried again by the next call.
        Raises:
            LlmrlError: it cannot be written.
        """
        if keep:
            self._write(line)
        self.lines[str(line["id"])] = line

    def _write(self, line: Line) -> None:
        try:
            self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _read(self) -> None:
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            self._file.truncate(len(whole))
        lines = [self._line(line, number) for number, line in enumerate(whole.splitlines(), start=1)]
        if not lines:
            self._write({"settings": self.settings})
            return
        if lines[0].get("settings") != self.settings:
            raise DataError(
                f"{self.path}: was begun with {_different(lines[0].get('settings'), self.settings)}; go on with the "
                "same options, choose another out, or delete the file to begin again"
            )
        self.lines = {str(line["id"]): line for line in lines[1:]}

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
        raise _unwritable(path, error) from error


def _different(before: Any, now: Line) -> str:
    if not isinstance(before, dict):
        return "other settings"
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return ", ".join(f"{key} {before.get(key)!r:.80}, now {now.get(key)!r:.80}" for key in keys[:3])


def _unwritable(path: Path, error: OSError) -> LlmrlError:
    return LlmrlError(f"{path}: cannot be written: {error.strerror or error}; make room, or choose another out")
