"""The end of a command: its exit code, and one message on standard error, whatever ended it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from llmrl import aio
from llmrl.errors import LlmrlError, Stopped
from llmrl.run_folder.command import going_on
from llmrl.run_folder.progress import end_at_once

_LOST = re.compile(r"gloo|nccl|connection (closed|reset)|broken pipe|socket", re.IGNORECASE)


@contextmanager
def endings() -> Iterator[None]:
    """Turn errors and signals into exit codes: 1 for a refusal, 128 and its number for a signal.

    The first ctrl-C unwinds and stops what was started; the second ends the process at once.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _CtrlC())
    try:
        yield
    except LlmrlError as error:
        tell(str(error))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if not _among_several() or not lost(error):
            raise
        tell(
            f"a process of this run was lost ({type(error).__name__}: {str(error).splitlines()[0]}). Go on with "
            "--resume; tracebacks are in errors.log of the run's folder"
        )
        _leave(1)  # libraries would wait for the process that is lost


@contextmanager
def stopped_by_signals(advice: str | None = None, unsaved: str = "nothing to save yet") -> Iterator[None]:
    """Turn the end of a run by a signal into its exit code; inside of a command, for typer makes 130 of it.

    The process ends without Python's own farewell, whose waiting for threads nobody bounds.

    Args:
        advice: what to do next, where a checkpoint was saved; None: the command that was typed, with `--resume`.
        unsaved: what to print where none was.
    """
    try:
        yield
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            go_on = f"go on with: {going_on()}" if advice is None else advice
            kept = f"saved after {stopped.steps} steps; {go_on}" if stopped.steps else unsaved
            print(f"llmrl: stopped by {stopped}: {kept}", file=sys.stderr)
        _leave(128 + stopped.number)


def lost(error: BaseException) -> bool:
    """Tell whether an error is that of a collective operation whose other side has gone."""
    return isinstance(error, RuntimeError) and bool(_LOST.search(f"{type(error).__name__} {error}"))


def tell(message: str) -> None:
    """Print a message; of several processes of one launch on a machine, the first that calls does."""
    if not _among_several() or _first():
        print(f"llmrl: {message}", file=sys.stderr, flush=True)


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _among_several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1")


def _first() -> bool:
    """True for the first of the processes that torch's launcher started here; it gives them a folder in common."""
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not own:
        return True
    try:
        os.close(os.open(Path(own).parents[1] / "llmrl-message", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


class _CtrlC:
    """Handler of SIGINT."""

    def __init__(self) -> None:
        self._came = False

    def __call__(self, _number: int, _frame: Any) -> None:
        if self._came:
            end_at_once(130)
        self._came = True
        if aio.waiting():
            aio.interrupt(KeyboardInterrupt())
        else:
            raise KeyboardInterrupt
