"""A program that never outlives us: stopped on request, at exit, and when this process is killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

_POLL_S = 0.2
_LOOK_S = 1.0  # between two looks at who holds which shared memory
_PR_SET_PDEATHSIG = 1  # prctl(2)
_SHARED_MEMORY = Path("/dev/shm")


class Child:
    """A running program with its own process group, watched over by a small process of ours.

    The watcher ends the whole group on request, or when it sees that its parent is gone. A death signal to the
    program alone is not enough: it follows the thread that started it, and spares the program's own children.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path | None = None,
        grace_s: float = 10.0,
        outputs: tuple[int | None, int | None] = (None, None),
    ) -> None:
        """Start `argv` with the environment `env`.

        Args:
            log: a file for all that it prints; None leaves it our own output.
            grace_s: seconds between asking it to end and killing it.
            outputs: without a log, descriptors for what it prints and for its errors; None for ours.
        """
        self.log = log
        self._grace_s = grace_s
        watcher = [sys.executable, "-I", __file__, str(os.getpid()), str(grace_s), *argv]
        with open(log if log else os.devnull, "ab") as output:
            self._process = subprocess.Popen(
                watcher,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output if log else outputs[0],
                stderr=subprocess.STDOUT if log else outputs[1],
                start_new_session=True,  # ctrl-C in the terminal comes to us, who stop it in order
            )
        self._stopper = weakref.finalize(self, _stop, self._process, grace_s, os.getpid())  # also runs at exit

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait until it has ended; returns its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """End it and all processes that it started; returns when they are gone. Safe to call twice."""
        self._stopper()

    def tail(self, lines: int = 25) -> str:
        """The end of its log."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _stop(process: subprocess.Popen[bytes], grace_s: float, owner: int) -> None:
    if os.getpid() != owner:  # a forked copy of us has nothing to stop
        return
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s + 5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _watch(parent: int, grace_s: float, argv: Sequence[str]) -> int:
    """Run `argv` until it ends, a signal asks to stop, or `parent` is gone; then end its whole group."""
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: signals.append(got))
    before = _listed()
    program = subprocess.Popen(argv, start_new_session=True, preexec_fn=_end_with_watcher)
    segments = _Segments(program.pid, before)
    while program.poll() is None and not signals and os.getppid() == parent:
        segments.look()
        time.sleep(_POLL_S)
    segments.look(now=True)
    if program.poll() is None:
        program.terminate()
        try:
            program.wait(grace_s)
        except subprocess.TimeoutExpired:
            print(f"llmrl: {argv[0]} did not end within {grace_s:g} s and is killed", file=sys.stderr)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    code = program.wait()
    segments.remove()
    return 128 - code if code < 0 else code


class _Segments:
    """The shared memory of a process group, whose files stay when their owner is killed.

    Python has a process that would remove them, but it belongs to the group and is killed with it. Hence: files that
    came after the program began, and that a process of its group has mapped.
    """

    def __init__(self, group: int, before: set[str]) -> None:
        self._group = group
        self._before = before  # files of others
        self._listed: set[str] = set()
        self._known: set[str] = set()  # listed twice: between two looks a new file has been mapped
        self._ours: set[str] = set()
        self._next = 0.0  # when to look again, by the monotonic clock

    def look(self, *, now: bool = False) -> None:
        """Note which files the group has mapped; at most once in `_LOOK_S`, and only where there are new ones."""
        listed = _listed() - self._before
        if not now and (time.monotonic() < self._next or listed <= self._known):
            return
        self._next = time.monotonic() + _LOOK_S
        for process in _members(self._group):
            with contextlib.suppress(OSError):  # it has ended
                paths = {line.rpartition(" ")[2] for line in (process / "maps").read_text().splitlines()}
                self._ours |= {name for name in listed if str(_SHARED_MEMORY / name) in paths}
        self._known, self._listed = listed & self._listed, listed

    def remove(self) -> None:
        for name in self._ours:
            with contextlib.suppress(OSError):
                (_SHARED_MEMORY / name).unlink()


def _listed() -> set[str]:
    try:
        return {entry.name for entry in os.scandir(_SHARED_MEMORY) if entry.is_file(follow_symlinks=False)}
    except OSError:
        return set()


def _members(group: int) -> list[Path]:
    """The folders in /proc of the processes of a group."""
    members = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            fields = (process / "stat").read_text().rpartition(")")[2].split()  # state, parent, group, ...
            if int(fields[2]) == group:
                members.append(process)
    return members


def _end_with_watcher() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(_watch(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
