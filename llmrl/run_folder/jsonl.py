"""A file that grows line by line, by one writer at a time, and keeps what was handed over when the writer is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

from llmrl.errors import LlmrlError
from llmrl.run_folder.lock import lock, unlock


class Journal:
    """JSON lines on disk. Use as a context manager; a child says in `_read` what it makes of those that are there."""

    writer: ClassVar[str] = "process"  # who else may be writing, for the message

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        """Read what is there; a last line that was half written is cut off, to be done again.

        Raises:
            LlmrlError: the file cannot be written, or somebody else is writing it.
            DataError: a line is not what the child writes.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(self.path, "a+b")  # closed by __exit__
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            lock(self._file.fileno(), self.path)
            self._read(self._whole())
        except BlockingIOError:
            self._close()
            raise LlmrlError(
                f"{self.path}: another {self.writer} is writing it; wait for it, or choose another output"
            ) from None
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def _close(self) -> None:
        unlock(self._file.fileno())
        self._file.close()

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line and hand it to the operating system, so that it survives this process.

        Raises:
            LlmrlError: it cannot be written.
        """
        try:
            self._file.write(_encoded(line))
            self._file.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def rewrite(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Replace the file as a whole, never halfway. It is the last thing to be done before the file is closed.

        Raises:
            LlmrlError: it cannot be written; the file is as it was.
        """
        draft = self.path.with_name(self.path.name + ".partial")
        try:
            with draft.open("wb") as file:
                file.writelines(map(_encoded, lines))
            os.replace(draft, self.path)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _read(self, lines: Iterator[tuple[int, bytes]]) -> None:
        """Take the lines that are there, each with its number from 1 on, to the last."""
        raise NotImplementedError

    def _whole(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            yield number, line
            whole += len(line)
        self._file.truncate(whole)


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def plain(values: Mapping[str, Any]) -> Any:
    """Values as they are read again from a line of them."""
    return json.loads(_encoded(values))


def unwritable(path: Path, error: OSError) -> LlmrlError:
    """Make the error for a file that cannot be written."""
    return LlmrlError(f"{path}: cannot be written: {error.strerror or error}; choose another output or make room")
