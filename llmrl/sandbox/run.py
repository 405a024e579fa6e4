"""Run untrusted code: behind the strongest walls that this machine offers, within limits, and leave nothing behind."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal, cast

from llmrl.errors import SandboxError
from llmrl.sandbox.cleanup import MARK, folder_for, kill_all_of, kill_left, sealed, slot, sweep
from llmrl.sandbox.isolation import LEVELS, Level, Limits, command, fence_version, home
from llmrl.sandbox.landlock import OLDEST, SIGNALS

TICK_S = 0.1  # between looks at the memory
PROBE = Limits(wall_s=20.0, cpu_s=5.0)
Stopped = Literal["timeout", "memory", "output", "stopped"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of a program: its exit and its output."""

    kind: Literal["exited", "signal"] | Stopped
    code: int = 0  # the exit status, or the signal's number
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0

    @property
    def reason(self) -> str:
        """The end in words."""
        return {
            "exited": f"ended with exit status {self.code}",
            "signal": f"was ended by signal {_signal_name(self.code)}",
            "timeout": "took too long",
            "memory": "used too much memory",
            "output": "wrote too much",
            "stopped": "was still running when it was no longer needed",
        }[self.kind]


@dataclass(frozen=True, slots=True)
class Program:
    """A command line (`python` is the interpreter), its standard input, and a socket of its own."""

    argv: Sequence[str]
    stdin: bytes = b""
    channel: socket.socket | None = None  # the program inherits it under the same number; closed here


@dataclass(frozen=True)
class Sandbox:
    """Runs programs that may be hostile. Usable from any thread; each program gets walls and a user of its own.

    Raises:
        SandboxError: when it is used: the machine offers no level from `min_level` on, or not the chosen one.
    """

    min_level: Level = "unshare"  # weaker walls are refused
    level: Level | None = None  # exactly these walls; None: the strongest that work here
    limits: Limits = field(default_factory=Limits)

    def in_force(self) -> Level:
        """Level at which programs run here; the first call tries the levels out, which takes a moment."""
        for level in (self.level,) if self.level else reversed(LEVELS):
            if LEVELS.index(level) < LEVELS.index(self.min_level):
                break
            if not probe(level):
                return level
        tried = [name for name in LEVELS if LEVELS.index(name) >= LEVELS.index(self.level or self.min_level)]
        levels = "; ".join(f"{name}: {probe(name) or f'below {self.min_level}'}" for name in tried)
        less = "accept less with min_level" + (", which this kernel fences in" if fence_version() >= SIGNALS else "")
        raise SandboxError(
            f"untrusted code must run at level {self.level or self.min_level} or above, which this machine does not "
            f"offer ({levels}); install bubblewrap, or {less}, after reading docs/sandbox.md"
        )

    def run(self, argv: Sequence[str], stdin: bytes = b"") -> Outcome:
        """Run one program to its end, or to that of its time."""
        return self.together(Program(argv, stdin))[0]

    def together(self, *programs: Program) -> list[Outcome]:
        """Run several at once, each behind its own walls, until the first of them ends; then stop the rest."""
        level = self.in_force()
        with contextlib.ExitStack() as stack:
            inmates = [stack.enter_context(_inmate(level, self.limits, program)) for program in programs]
            return _watch(inmates, self.limits)


def available() -> dict[Level, str]:
    """Map each level to the reason why it does not work here; empty if it does."""
    return {level: probe(level) for level in LEVELS}


@cache
def probe(level: Level) -> str:
    """Try a level out: empty if it works here, else why it does not."""
    if level == "uid" and os.geteuid() != 0:
        return "only root can become another user"
    if level == "subprocess" and os.geteuid() == 0:
        return "root is bound by no limit on processes"
    try:
        with _inmate(level, PROBE, Program(["python", "-c", "import json; print('in')"])) as inmate:
            outcome = _watch([inmate], PROBE)[0]
    except (SandboxError, OSError) as error:
        return str(error)
    if outcome.stdout.strip() != b"in":
        lines = outcome.stderr.decode(errors="replace").strip().splitlines() or [outcome.reason]
        return lines[-1]
    log.info("sandbox: level %s works on this machine", level)
    if fence_version() < {"subprocess": SIGNALS, "uid": OLDEST}.get(level, 0):
        log.warning("sandbox: Linux is too old to fence level %s in; docs/sandbox.md says what stays open", level)
    return ""


@dataclass
class _Inmate:
    """A program that runs, as its parent sees it."""

    process: subprocess.Popen[bytes]
    level: Level
    uid: int | None
    mark: str
    start: float
    outputs: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})
    stopped: Stopped | None = None  # why we ended it

    def stop(self, why: Stopped) -> None:
        if self.process.poll() is None:
            self.stopped = self.stopped or why
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)

    def clear(self) -> None:
        """End the processes that it left. Where it had a process namespace, the kernel has done so already."""
        self.stop("stopped")
        if self.level == "subprocess":
            kill_left(self.process.pid, self.mark)
        elif self.uid is not None and (self.level == "uid" or self.stopped):
            kill_all_of(self.uid)
            if self.level == "uid" and not fence_version():
                sweep(self.uid)

    def outcome(self) -> Outcome:
        code = self.process.returncode
        number = -code if code < 0 else code - 128 if 128 < code <= 128 + signal.NSIG else 0
        kind: Any = self.stopped or ("signal" if number else "exited")
        if kind == "signal" and number == signal.SIGXCPU:
            kind = "timeout"
        out, err = (bytes(self.outputs[name]) for name in ("stdout", "stderr"))
        return Outcome(kind, number or code, out, err, time.monotonic() - self.start)


@contextlib.contextmanager
def _inmate(level: Level, limits: Limits, program: Program) -> Iterator[_Inmate]:
    """Start a program, and see that nothing of it is left in the end."""
    with contextlib.ExitStack() as stack:
        uid = stack.enter_context(slot()) if os.geteuid() == 0 else None
        folder = stack.enter_context(folder_for(uid)) if level in ("subprocess", "uid") else "/"
        stdin = stack.enter_context(sealed(program.stdin))
        words = command(level, limits, program.argv, uid, folder)
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
        environment["HOME"] = environment["TMPDIR"] = home(level, folder)
        mark, start = secrets.token_hex(16), time.monotonic()
        process = subprocess.Popen(
            words,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**environment, MARK: mark},
            pass_fds=[program.channel.fileno()] if program.channel else [],
            start_new_session=True,
        )
        if program.channel:
            program.channel.close()
        inmate = _Inmate(process, level, uid, mark, start)
        for pipe in (process.stdout, process.stderr):
            stack.callback(cast(IO[bytes], pipe).close)
        stack.callback(inmate.clear)
        yield inmate


def _watch(inmates: Sequence[_Inmate], limits: Limits) -> list[Outcome]:
    """Read their output and guard their limits until the first has ended; then end the others."""
    deadline = inmates[0].start + limits.wall_s
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for inmate in inmates:
            for name in inmate.outputs:
                pipe: IO[bytes] = getattr(inmate.process, name)
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, (inmate, name))
        pidfd = os.pidfd_open(inmates[0].process.pid)
        stack.callback(os.close, pidfd)
        selector.register(pidfd, selectors.EVENT_READ, None)
        look = time.monotonic() + TICK_S
        while inmates[0].process.poll() is None:
            for key, _ in selector.select(min(max(deadline - time.monotonic(), 0.0), TICK_S)):
                if key.data is None:
                    continue
                inmate, name = key.data
                if not _take(inmate, name, limits.output_kb << 10):
                    selector.unregister(key.fileobj)
            now = time.monotonic()
            if now >= deadline:
                for inmate in inmates:
                    inmate.stop("timeout")
            elif now >= look:
                look = now + TICK_S
                for inmate in inmates:
                    if _resident(inmate.process.pid) > limits.memory_mb << 20:
                        inmate.stop("memory")
        for name in inmates[0].outputs:
            _take(inmates[0], name, limits.output_kb << 10)
        for inmate in inmates[1:]:
            inmate.stop("stopped")
    return [inmate.outcome() for inmate in inmates]


def _take(inmate: _Inmate, name: str, most: int) -> bool:
    """Read the waiting output; False at its end. Past the limit the program is ended."""
    pipe: IO[bytes] = getattr(inmate.process, name)
    while chunk := _read(pipe):
        inmate.outputs[name] += chunk[: most - len(inmate.outputs[name])]
        if len(inmate.outputs[name]) >= most:
            inmate.stop("output")
            return False
    return chunk is None


def _read(pipe: IO[bytes]) -> bytes | None:
    """Read some bytes; empty at the end; None where nothing is there yet."""
    try:
        return os.read(pipe.fileno(), 1 << 16)
    except BlockingIOError:
        return None


def _resident(root: int) -> int:
    """Bytes of memory that a process and its descendants hold, those shared between them counted once for each."""
    total, waiting, page = 0, [root], os.sysconf("SC_PAGE_SIZE")
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            waiting += [
                int(child)
                for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()
            ]
    return total


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
