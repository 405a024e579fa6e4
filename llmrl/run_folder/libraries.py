"""Keep the terminal for llmrl's own lines: what libraries print goes to `libraries.log` in the run's folder.

Two layers, for libraries print in two ways. File descriptors 1 and 2 point to the log, for native code and for
processes that are started. `sys.stdout` and `sys.stderr` look at who writes: code of llmrl and of its user reaches the
terminal, code in site-packages and every warning reaches the log.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, TextIO, cast

from llmrl.errors import CheckpointError, ColumnError, DataError, RecipeError, RewardError

FILE = "libraries.log"
_CARRIERS = sys.stdlib_module_names | {"rich", "click", "typer"}
"""Packages that print what others give them."""
_PLAIN = (RecipeError, DataError, CheckpointError, ColumnError, RewardError)
"""Errors that say it all: nobody need look at what libraries printed."""


class OwnLines(io.TextIOBase):
    """A text stream that hands on what llmrl and its user write, and puts what libraries write into the log."""

    def __init__(self, terminal: TextIO, log: _Log) -> None:
        self._terminal = terminal
        self._log = log

    def write(self, text: str) -> int:
        if is_own(self._writer(sys._getframe(1))):
            return self._terminal.write(text)
        return self._log.write(text)

    def _writer(self, frame: FrameType) -> FrameType | None:
        """The frame that wrote, past a `write` that a library has put before this one to read along, as W&B does."""
        fronts = {getattr(getattr(each, "write", None), "__code__", None) for each in (self, sys.stdout, sys.stderr)}
        above: FrameType | None = frame
        while above is not None and above.f_code not in fronts:
            above = above.f_back
        if above is None:
            return frame
        while above is not None and above.f_code in fronts:
            above = above.f_back
        return above

    def flush(self) -> None:
        self._terminal.flush()

    def isatty(self) -> bool:
        return self._terminal.isatty()

    def fileno(self) -> int:
        return self._terminal.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._terminal.encoding or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._terminal.errors


def is_own(frame: FrameType | None) -> bool:
    """True if the nearest caller that is no carrier is llmrl's code or its user's; no warning is.

    Threads in which a carrier draws by itself, as a live view does, are llmrl's.
    """
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "warnings":
            return False
        if package == "llmrl":
            return True
        if package not in _CARRIERS:
            file = frame.f_code.co_filename
            return "site-packages" not in file and "dist-packages" not in file
        frame = frame.f_back
    return True


class _Log:
    """The file for what libraries print: without a name until the run's folder is known."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile("ab+")  # noqa: SIM115 - closed by `close`
        self.path: Path | None = None

    def write(self, text: str) -> int:
        self._file.write(text.encode("utf-8", "replace"))
        self._file.flush()
        return len(text)

    def fileno(self) -> int:
        return self._file.fileno()

    def move(self, path: Path) -> bool:
        """Go on at the end of a file, which gets what was written so far; False where it cannot be written."""
        try:
            file = path.open("ab+")
        except OSError:
            return False
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)
        file.flush()
        self._file.close()
        self._file, self.path = file, path
        return True

    def empty(self) -> bool:
        return os.fstat(self.fileno()).st_size == 0

    def close(self) -> None:
        self._file.close()


class _Terminal:
    """Both streams and both descriptors, as they were found."""

    def __init__(self, log: _Log) -> None:
        self.log = log
        self._streams = sys.stdout, sys.stderr
        for stream in self._streams:
            with suppress(AttributeError, ValueError, OSError):
                stream.flush()
        self._kept = {number: os.dup(number) for number in (1, 2)}
        self._own: list[TextIO] = []
        sys.stdout, sys.stderr = (cast(TextIO, OwnLines(self._opened(stream), log)) for stream in self._streams)
        self.point()

    def point(self) -> None:
        """Point both descriptors to the log."""
        for number in self._kept:
            os.dup2(self.log.fileno(), number)

    def restore(self) -> None:
        """Put everything back."""
        for stream in self._own:
            with suppress(ValueError, OSError):
                stream.flush()
        sys.stdout, sys.stderr = self._streams
        for number, kept in self._kept.items():
            os.dup2(kept, number)
            os.close(kept)

    @property
    def descriptors(self) -> tuple[int, int]:
        """Copies of the descriptors to which output and errors went before."""
        return self._kept[1], self._kept[2]

    def _opened(self, stream: Any) -> TextIO:
        """A stream to where this one goes now: one on a descriptor is opened anew on its copy."""
        try:
            number = self._kept[stream.fileno()]
        except (AttributeError, KeyError, ValueError, OSError):  # a notebook's, a test's, or none
            return cast(TextIO, stream if stream is not None else io.StringIO())
        own = open(  # noqa: SIM115 - its descriptor is closed by `restore`
            number, "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False
        )
        self._own.append(own)
        return own


_held: _Terminal | None = None


@contextmanager
def kept_apart(*, verbose: bool = False) -> Iterator[None]:
    """Keep what libraries print off the terminal; inside of another such context, or with `verbose`, change nothing.

    An error that libraries may have more to say about is told with the path of what they said.
    """
    global _held
    if verbose or _held is not None:
        yield
        return
    try:
        _held = _Terminal(_Log())
    except OSError:  # a closed descriptor, or no room for a temporary file
        yield
        return
    try:
        yield
    except Exception as error:
        if _held is not None and not isinstance(error, _PLAIN):
            _tell(_held.log)
        raise
    finally:
        shown()


def shown() -> None:
    """Let libraries print to the terminal again, from now on."""
    global _held
    if _held is not None:
        held, _held = _held, None
        held.restore()
        held.log.close()


def terminal() -> tuple[int | None, int | None]:
    """Descriptors of the terminal for a process of llmrl's own: output and errors; None where it inherits them."""
    return (None, None) if _held is None else _held.descriptors


def keep_in(folder: Path) -> None:
    """Keep what libraries print, so far and from now on, in `libraries.log` of a folder, made where it is missing."""
    if _held is None or _held.log.path is not None:
        return
    with suppress(OSError):  # what is to be written there tells
        folder.mkdir(parents=True, exist_ok=True)
    if _held.log.move(folder / FILE):
        _held.point()


def _tell(log: _Log) -> None:
    """Name the file that holds what libraries printed; of a run that has no folder yet, a new one."""
    if log.empty():
        return
    if log.path is None:
        descriptor, name = tempfile.mkstemp(prefix="llmrl-", suffix=".log")
        os.close(descriptor)
        log.move(Path(name))
    print(f"llmrl: what libraries printed: {log.path}", file=sys.stderr, flush=True)
