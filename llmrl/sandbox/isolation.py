"""Isolation of untrusted code: command lines that put a program behind the walls of each level."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from llmrl.errors import SandboxError
from llmrl.sandbox import landlock

Level = Literal["subprocess", "uid", "unshare", "bubblewrap"]
LEVELS: tuple[Level, ...] = ("subprocess", "uid", "unshare", "bubblewrap")  # from weak to strong

HIDDEN = {"/root": 755, "/home": 755, "/tmp": 1777, "/var/tmp": 1777, "/dev/shm": 1777}  # by level unshare: modes
SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64")  # links into /usr, or folders of their own
UNPRIVILEGED = ("--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resources that a program may use. Memory and files are bounded for each process, and memory for all together."""

    wall_s: float = 4.0  # from the start to the end
    cpu_s: float = 4.0  # of each process, rounded up to whole seconds
    memory_mb: int = 1024  # of addresses of a process; resident of all together
    file_mb: int = 16  # of a file; twice this of all files, where they are kept in memory (from level unshare)
    processes: int = 16  # threads count
    open_files: int = 64
    output_kb: int = 1024  # of standard output, and as much of standard error; more ends the program

    def __post_init__(self) -> None:
        if min(self.wall_s, self.cpu_s, self.memory_mb, self.file_mb, self.processes, self.output_kb) <= 0:
            raise ValueError(f"{self}: expected limits above 0")


@cache
def fence_version() -> int:
    """Version of Landlock, the fence behind which the levels without namespaces run; 0 for none."""
    return landlock.offered()


def command(level: Level, limits: Limits, argv: Sequence[str], uid: int | None, folder: str = "/") -> list[str]:
    """Build the command line that runs `argv` behind the walls of `level`.

    Args:
        argv: the program; a first word `python` stands for the interpreter, with the standard library alone.
        uid: the user and group to become; None to stay who we are.
        folder: the one that the program may write to, where the level has no folders in memory.
    Raises:
        SandboxError: a program that the level needs is not installed.
    """
    words = [*python(level), *argv[1:]] if argv[0] == "python" else list(argv)
    inner = [*_become(uid), *_bounded(limits)]
    if level == "bubblewrap":
        return [*_bubblewrap(limits, uid), *inner, *words]
    if level == "unshare":
        return [*_unshare(limits, uid), *inner, *words]
    return [tool("setpriv"), "--pdeathsig", "KILL", *inner[1:], *_fenced(level, folder), *words]


def python(level: Level) -> list[str]:
    """The interpreter as the program finds it, with its options: no packages, nothing of the user's."""
    options = ["-s", "-S", "-B"]
    prefix, executable = Path(sys.base_prefix).resolve(), Path(sys.executable).resolve()
    if level in ("bubblewrap", "unshare"):
        below = executable.relative_to(prefix) if executable.is_relative_to(prefix) else Path("bin") / executable.name
        return [f"{inside(level)}/{below}", *options]
    if level == "uid" and not _open_to_all(executable):
        return [shutil.which("python3", path="/usr/bin:/usr/local/bin") or str(executable), *options]
    return [str(executable), *options]


def inside(level: Level) -> str:
    """Path under which the program sees the interpreter's folder."""
    return "/python" if level == "bubblewrap" else "/run/python"


def home(level: Level, folder: str) -> str:
    """The folder that a program starts in and may write to; `folder` where the level has none of its own."""
    return {"bubblewrap": "/box", "unshare": "/tmp"}.get(level, folder)


def tool(name: str) -> str:
    """The path of a system program.

    Raises:
        SandboxError: it is not installed.
    """
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin")
    if path is None:
        package = {"bwrap": "bubblewrap"}.get(name, "util-linux")
        raise SandboxError(f"{name} is not installed; expected the system package {package}")
    return path


def _become(uid: int | None) -> list[str]:
    if uid is None:
        return [tool("setpriv"), *UNPRIVILEGED]
    return [tool("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *UNPRIVILEGED]


def _bounded(limits: Limits) -> list[str]:
    """Limits of the kernel, and a mark that lets it end this program first where memory runs out."""
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
    return [tool("prlimit"), *(f"--{name}={value}" for name, value in bounds.items()), *_first_to_go()]


def _first_to_go() -> list[str]:
    return [tool("choom"), "-n", "1000", "--"]


def _fenced(level: Level, folder: str) -> list[str]:
    """The program of `landlock.py`, which runs the words that follow; nothing where the kernel has no fence."""
    if not fence_version():
        return []
    interpreter = python(level)
    prefix = sys.base_prefix if interpreter[0] == str(Path(sys.executable).resolve()) else "/usr"
    return [*interpreter, "-c", _fence_text(), str(fence_version()), folder, prefix, "--"]


@cache
def _fence_text() -> str:
    return Path(landlock.__file__).read_text(encoding="utf-8")


def _bubblewrap(limits: Limits, uid: int | None) -> list[str]:
    """Namespaces, an empty root with /usr and the interpreter, small folders in memory.

    As root the walls are built with root's rights and the program then becomes another user for good, so that
    RLIMIT_NPROC counts and an interpreter that only root can reach is there. Else a user namespace does it.
    """
    words = [tool("bwrap"), "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    words += ["--die-with-parent", "--new-session", "--hostname", "box", "--ro-bind", "/usr", "/usr"]
    for name in SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    words += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--ro-bind", sys.base_prefix, "/python"]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp", "/box"):
        words += ["--perms", "1777", "--size", str(limits.file_mb << 21), "--tmpfs", folder]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/box", "--cap-drop", "ALL"]
    if uid is None:
        return [*words, "--unshare-user", "--disable-userns", "--"]
    return [*words, *(w for cap in ("SETUID", "SETGID", "SETPCAP") for w in ("--cap-add", f"CAP_{cap}")), "--"]


def _unshare(limits: Limits, uid: int | None) -> list[str]:
    """The same namespaces by util-linux. The root stays, read-only; homes and temporary folders are empty.

    The shell stays as process 1, out of the program's reach, and dies with its parent: a program in its place could
    leave the group and clear its parent-death signal, and live on.
    """
    room = f"size={limits.file_mb << 21}"
    empty = "; ".join(f"[ ! -d {p} ] || mount -t tmpfs -o {room},mode={mode} tmpfs {p}" for p, mode in HIDDEN.items())
    homes = "; ".join(f"[ ! -d {p} ] || mount -o remount,bind,ro {p}" for p, mode in HIDDEN.items() if mode == 755)
    script = (
        "set -e; while read -r _ _ _ _ place options _; do "  # a user namespace may not drop nosuid or nodev of others
        "case $place in /proc|/proc/*|/sys|/sys/*|/dev|/dev/*) ;; "
        '*) mount -o "remount,bind,$options,ro" "$place";; esac; '
        "done < /proc/self/mountinfo; "
        f"mount -t tmpfs -o {room},mode=755 tmpfs /run; mkdir /run/python; "
        f"mount --bind {shlex.quote(sys.base_prefix)} /run/python; "
        "mount -o remount,bind,ro /run/python; mount -o remount,bind,ro /run; "
        f"{empty}; {homes}; "
        "cd /tmp; fd=9; [ ! -e /proc/self/fd/9 ] || fd=8; "  # one is free: a program inherits one socket at most
        # a message of the shell about a signal is no output of the program
        'eval "exec $fd>&2 2>/dev/null; (exec \\"\\$@\\" 2>&$fd $fd>&-)"; exit $?'
    )
    words = [tool("setpriv"), "--pdeathsig", "KILL", tool("unshare")]
    if uid is None:
        words += ["--user", "--map-root-user"]
    words += ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]
    return [*words, tool("sh"), "-c", script, "sh"]


def _open_to_all(path: Path) -> bool:
    """Tell whether any user may run this file."""
    return all(place.stat().st_mode & 0o001 for place in (path, *path.parents))
