"""Processes of sandboxed programs: start them, look at their limits, end them with all that they started."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, cast

from llmrl.sandbox import namespaces, seccomp
from llmrl.sandbox.cleanup import MARK, folder_for, full_of_files, kill_all_of, kill_left, overfull, sealed, slot, sweep
from llmrl.sandbox.fence import fence_version
from llmrl.sandbox.isolation import Cell, Level, Limits, Mount, command
from llmrl.sandbox.warden import Warden

Stopped = Literal["timeout", "memory", "output", "files", "stopped"]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
MEASURE_S = 1.0
END_S = 3.0  # for the kernel to end what was killed
WARDEN = Warden()


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of a program: its kind, exit status or signal, and its output."""

    kind: Literal["exited", "signal"] | Stopped
    code: int = 0  # the exit status, or the signal's number
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    limit_s: float = 0.0  # that it had

    @property
    def reason(self) -> str:
        """The end in words, for people."""
        return {
            "exited": f"ended with exit status {self.code}",
            "signal": f"was ended by signal {_signal_name(self.code)}",
            "timeout": f"took longer than {self.limit_s:.3g} s",
            "memory": "used too much memory",
            "output": "wrote too much",
            "files": "left too many files, or too large ones",
            "stopped": "was still running when it was no longer needed",
        }[self.kind]


@dataclass(frozen=True, slots=True)
class Program:
    """Command line of a program (`python` is the interpreter), its standard input, and a socket for itself."""

    argv: Sequence[str]
    stdin: bytes = b""
    channel: socket.socket | IO[bytes] | None = None  # the program inherits it under the same number; closed here


@dataclass
class Inmate:
    """A running program."""

    process: subprocess.Popen[bytes]
    place: Cell
    limits: Limits
    mark: str
    start: float
    info: int | None  # where bubblewrap tells the process that ends the namespace
    first: int | None = None  # that process, as a handle that no other process gets
    outputs: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})
    stopped: Stopped | None = None  # the limit for which we ended it
    measured: float = 0.0  # when the folders of the host that it may write to were looked at

    @property
    def ended(self) -> bool:
        """Tell whether the program has ended. It is not collected: its number stays taken until its group is killed."""
        if self.process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def stop(self, why: Stopped) -> None:
        """End the program and all that it started, also what is left of one that has ended."""
        if not self.ended:
            self.stopped = self.stopped or why
        if self.process.returncode is not None:
            return
        self.meet_first()
        if self.first is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.first, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=END_S)
        if self.first is not None:  # whose end is that of all in the namespace
            waiting = select.poll()
            waiting.register(self.first, select.POLLIN)
            waiting.poll(END_S * 1000)

    def clear(self) -> None:
        """End all processes that the program left."""
        self.stop("stopped")
        if self.place.level == "subprocess" and not seccomp.program(True):  # by which no process leaves its group
            kill_left(self.process.pid, self.mark)
        elif self.place.uid is not None and (self.place.level == "uid" or self.stopped):
            kill_all_of(self.place.uid)
            if self.place.level == "uid" and not fence_version():
                sweep(self.place.uid)

    def meet_first(self) -> None:
        """Open a handle of the namespace's first process, which bubblewrap reports before the program starts."""
        if self.info is not None and self.first is None:
            with contextlib.suppress(BlockingIOError, ValueError, ProcessLookupError):
                self.first = os.pidfd_open(json.loads(os.read(self.info, 4096))["child-pid"])

    def close(self) -> None:
        """Close the pipes and handles."""
        for pipe in (self.process.stdout, self.process.stderr):
            cast("IO[bytes]", pipe).close()
        for end in (self.info, self.first):
            if end is not None:
                os.close(end)

    def excess(self) -> Stopped | None:
        """Name the limit that is exceeded, of those that the kernel does not enforce."""
        if resident(self.process.pid) > self.limits.memory_mb << 20:
            return "memory"
        if self.place.shared:
            full = overfull(self.place.folder, self.limits.files, self.limits.room_kb)
        else:
            full = False
            for child in children(self.process.pid) if self.place.level == "bubblewrap" else ():
                full = full or full_of_files(f"/proc/{child}/root", namespaces.rooms("bubblewrap"), self.limits.files)
        return "files" if full or self._mounts_full() else None

    def _mounts_full(self) -> bool:
        """Look at the writable folders of the host, which may be large, once a second."""
        if not self.place.mounts or time.monotonic() - self.measured < MEASURE_S:
            return False
        writable = [mount for mount in self.place.mounts if mount.writable]
        full = any(overfull(mount.folder, mount.files, mount.size_mb << 10) for mount in writable)
        self.measured = time.monotonic()
        return full

    def outcome(self) -> Outcome:
        code = -signal.SIGKILL if self.process.returncode is None else self.process.returncode
        number = -code if code < 0 else code - 128 if 128 < code <= 128 + signal.NSIG else 0
        kind: Any = self.stopped or ("signal" if number else "exited")
        if kind == "signal" and number == signal.SIGXCPU:
            kind = "timeout"
        out, err = (bytes(self.outputs[name]) for name in ("stdout", "stderr"))
        return Outcome(kind, number or code, out, err, time.monotonic() - self.start, self.limits.wall_s)


@contextlib.contextmanager
def started(
    level: Level, limits: Limits, program: Program, packages: tuple[str, ...] = (), mounts: tuple[Mount, ...] = ()
) -> Iterator[Inmate]:
    """Start a program; in the end, remove all that it left."""
    with contextlib.ExitStack() as stack:
        uid = stack.enter_context(slot()) if os.geteuid() == 0 else None
        stdin = stack.enter_context(sealed(program.stdin))
        folder = folder_for(uid) if level in ("subprocess", "uid") else "/"
        info, told = os.pipe() if level == "bubblewrap" else (None, None)
        place = Cell(level=level, uid=uid, folder=folder, info=told, mounts=mounts)
        mark = secrets.token_hex(16)
        passed = [end for end in (program.channel.fileno() if program.channel else None, told) if end is not None]
        start = time.monotonic()
        try:
            process = subprocess.Popen(
                command(place, limits, program.argv, packages),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={**ENVIRONMENT, "HOME": place.own[0], "TMPDIR": place.own[0], MARK: mark},
                pass_fds=passed,
                start_new_session=True,
                umask=0 if mounts else -1,  # the next program in such a folder is another user
            )
        except BaseException:
            if place.shared:
                os.rmdir(folder)
            if info is not None:
                os.close(info)
            raise
        finally:
            if told is not None:
                os.close(told)
        if program.channel:
            program.channel.close()
        inmate = Inmate(process, place, limits, mark, start, info, measured=start)
        stack.callback(inmate.close)
        if place.shared:
            WARDEN.guard(process.pid, uid, mark, folder)
            stack.callback(WARDEN.release, process.pid)
        stack.callback(inmate.clear)
        if info is not None:
            os.set_blocking(info, False)
        yield inmate


def children(pid: int) -> list[int]:
    """Child processes of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def resident(root: int) -> int:
    """Bytes of memory that a process and its descendants hold, those shared between them counted once for each."""
    total, waiting, page = 0, [root], os.sysconf("SC_PAGE_SIZE")
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
        waiting += children(pid)
    return total


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
