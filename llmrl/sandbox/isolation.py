"""Isolation of untrusted code: command lines that put a program behind the walls of each level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llmrl.errors import SandboxError
from llmrl.sandbox import namespaces
from llmrl.sandbox.fence import SEEN, fenced, library_of
from llmrl.sandbox.interpreter import OPTIONS, Interpreter, open_to_all, ours
from llmrl.sandbox.tools import tool

Level = Literal["subprocess", "uid", "unshare", "bubblewrap"]
LEVELS: tuple[Level, ...] = ("subprocess", "uid", "unshare", "bubblewrap")  # from weak to strong
UNPRIVILEGED = ("--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resources that a program may use. Memory and files are bounded for each process, and for all together."""

    wall_s: float = 4.0  # from the start to the end
    cpu_s: float = 4.0  # of each process, rounded up to whole seconds
    memory_mb: int = 1024  # of addresses of a process; resident of all together
    file_mb: int = 16  # of a file; twice this of all files in a folder
    files: int = 1024  # and folders, that exist at once
    processes: int = 16  # threads count
    open_files: int = 64
    output_kb: int = 1024  # of standard output, and as much of standard error; more ends the program

    def __post_init__(self) -> None:
        sizes = (self.memory_mb, self.file_mb, self.files, self.processes, self.output_kb)
        if min(self.wall_s, self.cpu_s, *sizes) <= 0:
            raise ValueError(f"{self}: expected limits above 0")

    @property
    def room_kb(self) -> int:
        """Size of a folder that a program may write to."""
        return self.file_mb << 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder of the host that a program sees. It needs a level with a root of its own: unshare or bubblewrap.

    Attributes:
        folder: on the host.
        inside: its place there.
        writable: the program may change it. Everybody must be able to write to it: as root, programs are other users.
        files, size_mb: bounds of a writable folder, looked at once a second.
    """

    folder: str
    inside: str
    writable: bool = False
    files: int = 100_000
    size_mb: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Level, user and folder of a program.

    Attributes:
        uid: the user and group that it becomes; None to stay who we are.
        folder: on disk, which it starts in and may write to, at a level without namespaces.
        info: for bubblewrap, an open file to which it writes the process that ends the namespace.
        mounts: folders of the host that it sees.
    """

    level: Level
    uid: int | None = None
    folder: str = "/"
    info: int | None = None
    mounts: tuple[Mount, ...] = ()

    @property
    def shared(self) -> bool:
        """Tell whether only the fence stands between the program and the host's files and processes."""
        return self.level in ("subprocess", "uid")

    @property
    def own(self) -> Sequence[str]:
        """The folders that the program may write to; it starts in the first."""
        writable = [mount.inside for mount in self.mounts if mount.writable]
        return [self.folder] if self.shared else [*namespaces.rooms(self.level), *writable]


def command(place: Cell, limits: Limits, argv: Sequence[str], packages: tuple[str, ...] = ()) -> list[str]:
    """Build the command line that runs `argv` behind the walls of a level.

    Args:
        argv: the program; a first word `python` stands for the interpreter, with the standard library.
        packages: those of llmrl's environment that the interpreter may import.
    Raises:
        SandboxError: a program that the level needs is not installed, or a package; or the level has no mounts.
    """
    if place.mounts and place.shared:
        raise SandboxError(
            f"level {place.level} has no root of its own, so that no folder can be put into it; expected unshare or "
            "bubblewrap: `python -m llmrl doctor` says what this machine lacks"
        )
    interpreter = open_to_all(packages) if place.level == "uid" else ours(packages)
    if place.shared:
        executable, library = str(interpreter.executable), list(library_of(interpreter))
        named = [f"{name}={folder}" for name, folder in interpreter.packages]
    else:
        executable, parts, named = namespaces.inside(interpreter)
        library = [(SEEN, part) for part in (*parts, *(mount.inside for mount in place.mounts if not mount.writable))]
    python = [executable, *OPTIONS]
    words = [*python, *argv[1:]] if argv[0] == "python" else list(argv)
    words = words[len(python) :] if words[: len(python) + 1] == [*python, "-c"] else words
    inner = fenced(python, place.own, library, named, words, shared=place.shared)
    return [*_walls(place, limits, interpreter), *_become(place.uid), *_bounded(limits), *inner]


def _walls(place: Cell, limits: Limits, interpreter: Interpreter) -> list[str]:
    """Words before the program: those of its level, and a mark by which the kernel ends it first if memory runs out."""
    first_to_go = [tool("choom"), "-n", "1000", "--"]
    if place.level == "bubblewrap":
        walls = namespaces.bubblewrap(interpreter, limits.room_kb, place.uid, place.info, bound(place.mounts))
        return [*first_to_go, *walls]
    if place.level == "unshare":
        walls = namespaces.unshare(interpreter, limits.room_kb, limits.files, place.uid, bound(place.mounts))
        return [*first_to_go, *walls]
    return first_to_go


def bound(mounts: Sequence[Mount]) -> tuple[tuple[str, str, bool], ...]:
    """Folder, place inside and writability of each mount."""
    return tuple((mount.folder, mount.inside, mount.writable) for mount in mounts)


def _become(uid: int | None) -> list[str]:
    user = [] if uid is None else [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [tool("setpriv"), "--pdeathsig", "KILL", *user, *UNPRIVILEGED]


def _bounded(limits: Limits) -> list[str]:
    """Limits of the kernel."""
    cpu = math.ceil(limits.cpu_s)
    bounds = {
        "cpu": f"{cpu}:{cpu + 1}",  # SIGXCPU, then SIGKILL for a program that ignores it
        "as": str(limits.memory_mb << 20),
        "fsize": str(limits.file_mb << 20),
        "nproc": str(limits.processes),
        "nofile": str(limits.open_files),
        "core": "0",
        "memlock": "0",
        "msgqueue": "0",
    }
    return [tool("prlimit"), *(f"--{name}={value}" for name, value in bounds.items())]
