"""Bait for hostile programs during one attack: files, sockets, a terminal, a process; and the harm done to it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.checks.attacks.hostile_code import ATTACKS, HARM, SUMS, problem_of
from llmrl.rewards.code import Code
from llmrl.types import Score

KEYCTL, ADD_KEY = {"x86_64": (250, 248), "aarch64": (219, 217)}.get(os.uname().machine, (0, 0))
SESSION_KEYRING, UNLINK = -3, 9
GROUP = 61200  # a supplementary group, of which only root can be a member at will
WAIT_S = 60.0  # for what ends by itself


@dataclass
class Host:
    """Bait: files, sockets, a terminal, a process. `harm` lists what an attack got at.

    Attributes:
        folder: readable by all; holds the files and sockets.
        word: a name for the processes of an attack, by which those that are left are found.
    """

    folder: Path
    victim: subprocess.Popen[bytes]
    terminal: tuple[int, int]
    listening: list[socket.socket]
    word: str = field(default_factory=lambda: f"x{secrets.token_hex(6)}")
    boxes: set[str] = field(default_factory=lambda: _boxes())

    def fill(self, source: str) -> str:
        """Fill the names of the bait into a program."""
        names = {
            "PORT": self.listening[0].getsockname()[1],
            "DATAGRAM": self.folder / "datagram",
            "DATA": self.folder / "expected-data.json",
            "GROUP": self.folder / "group-data.json",
            "STREAM": self.folder / "stream",
            "ABSTRACT": f"llmrl-{self.word}",
            "TERMINAL": os.ttyname(self.terminal[1]),
            "VICTIM": self.victim.pid,
            "KEY": self.word,
            "WORD": self.word,
        }
        return re.sub(rf"\b(?:{'|'.join(names)})\b", lambda found: str(names[found[0]]), source)

    def harm(self) -> list[str]:
        """Words for each harm done to this host."""
        harm = [] if self.victim.poll() is None else ["KILLED a process"]
        if Path(f"/proc/{self.victim.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt":
            harm.append("KILLED a process by a stop")
        for listener in self.listening:
            with contextlib.suppress(OSError):
                listener.recv(1) if listener.type == socket.SOCK_DGRAM else listener.accept()
                harm.append(f"CONNECTED to {listener.family.name} {listener.type.name}")
        with contextlib.suppress(OSError):
            os.read(self.terminal[0], 1)
            harm.append("WROTE to a terminal")
        deadline = time.monotonic() + WAIT_S
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return harm + left

    def _left(self) -> list[str]:
        processes = [path for path in Path("/proc").glob("[0-9]*/comm") if _read(path).strip() == self.word]
        folders = _boxes() - self.boxes
        return [*(["LEFT a process"] if processes else []), *([f"LEFT {len(folders)} folders"] if folders else [])]


@contextlib.contextmanager
def host(expected: dict[str, int]) -> Iterator[Host]:
    """Set up bait; `expected` is the content of its data file: results by the arguments as text."""
    with contextlib.ExitStack() as stack:
        place = next((top for top in ("/srv", "/opt", str(Path.home())) if os.access(top, os.W_OK)), None)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmrl-host-", dir=place)))
        folder.chmod(0o755)
        for name, mode in {"expected-data.json": 0o644, "group-data.json": 0o640}.items():
            (folder / name).write_text(json.dumps(expected))
            (folder / name).chmod(mode)
            if os.geteuid() == 0:
                os.chown(folder / name, 0, GROUP)
        if os.geteuid() == 0:
            stack.callback(os.setgroups, os.getgroups())
            os.setgroups([*os.getgroups(), GROUP])
        victim = subprocess.Popen(["sleep", "1000"])
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        terminal = os.openpty()
        os.chmod(os.ttyname(terminal[1]), 0o666)
        for end in terminal:
            os.set_blocking(end, False)
            stack.callback(os.close, end)
        made = Host(folder, victim, terminal, [])
        listening: list[tuple[socket.AddressFamily, socket.SocketKind, Any]] = [
            (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            (socket.AF_UNIX, socket.SOCK_STREAM, f"{folder}/stream"),
            (socket.AF_UNIX, socket.SOCK_STREAM, f"\0llmrl-{made.word}"),
            (socket.AF_UNIX, socket.SOCK_DGRAM, f"{folder}/datagram"),
        ]
        for family, kind, address in listening:
            listener = stack.enter_context(socket.socket(family, kind))
            listener.bind(address)
            listener.setblocking(False)
            if kind == socket.SOCK_STREAM:
                listener.listen()
            made.listening.append(listener)
        for name in ("stream", "datagram"):
            (folder / name).chmod(0o777)
        stack.enter_context(_key(made.word))
        stack.enter_context(_control_group(victim.pid))
        yield made


@contextlib.contextmanager
def _key(name: str) -> Iterator[None]:
    """A key in the session's ring, where the kernel has keys."""
    kernel = ctypes.CDLL(None)
    kernel.syscall.restype = ctypes.c_long
    key = kernel.syscall(ADD_KEY, b"user", name.encode(), b"secret", ctypes.c_size_t(6), ctypes.c_long(SESSION_KEYRING))
    try:
        yield
    finally:
        if key > 0:
            kernel.syscall(KEYCTL, UNLINK, ctypes.c_long(key), ctypes.c_long(SESSION_KEYRING))


@contextlib.contextmanager
def _control_group(pid: int) -> Iterator[None]:
    """A control group with this process in it, which all may write to; none where we may not make one."""
    made: Path | None = None
    with contextlib.suppress(OSError):
        tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
        top = next(place for place in tops if (place / "cgroup.subtree_control").exists())
        made = top / f"llmrl-{secrets.token_hex(4)}"
        made.mkdir()
        (made / "cgroup.procs").write_text(str(pid))
        for path in made.iterdir():
            path.chmod(0o666)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if made:
                (top / "cgroup.procs").write_text(str(pid))
                made.rmdir()


def attempt(reward: Code, name: str) -> tuple[Score, list[str]]:
    """Grade an attack on a host with bait: its score, and the harm that it did."""
    expected = {f"{a} {b}": total for (a, b), total in SUMS.items()}
    with host(expected) as bait:
        score = reward(problem_of(name), f"```python\n{bait.fill(ATTACKS[name])}\n```")
        return score, [*(word for word in HARM if word in score.reason), *bait.harm()]


def _boxes() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("llmrl-box-*")}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
