"""Namespaces around a program: a root with the system's programs and the interpreter, and nothing else of the host."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

from llmrl.sandbox.fence import DEVICES, LINKS
from llmrl.sandbox.interpreter import OWN_PARTS, Interpreter, package_folders
from llmrl.sandbox.tools import tool

ROOT = "/sys"  # where the new root is put together: a folder that every Linux has, and that nothing needs
ROOMS = {"bubblewrap": ("/box", "/tmp", "/dev/shm"), "unshare": ("/tmp", "/var/tmp", "/dev/shm")}
"""Small folders in memory that a program may write to; it starts in the first."""
MASKED = ("/usr/local", "/usr/src")  # not the system's own
TOOLS = ("setpriv", "prlimit", "sh")  # run inside
Bound = tuple[str, str, bool]
"""A folder of the host, its place in the new root, and whether the program may write to it."""


def bubblewrap(
    interpreter: Interpreter, room_kb: int, uid: int | None, info: int | None, mounts: Sequence[Bound] = ()
) -> list[str]:
    """Build the command of the package bubblewrap; the words of the program follow.

    As root the walls are built with root's rights and the program then becomes another user for good, so that
    RLIMIT_NPROC counts and an interpreter that only root can reach is there. Else a user namespace does it.

    Args:
        room_kb: size of each folder in memory.
        info: an open file to which bubblewrap writes the process that ends the namespace.
        mounts: folders of the host.
    """
    words = [tool("bwrap"), "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    words += ["--die-with-parent", "--new-session", "--hostname", "box"]
    words += ["--info-fd", str(info)] if info is not None else []
    for name in LINKS:
        if Path("/", name).is_symlink():
            words += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
    for folder in (*reversed(Path(seat(interpreter)).parents), seat(interpreter), "/packages"):
        words += [] if str(folder) in ("/", "/usr") else ["--perms", "0755", "--dir", str(folder)]
    for place, inside in _bound(interpreter):
        words += ["--ro-bind", place, inside]
    for place in _masked(interpreter):
        words += ["--perms", "0755", "--size", "4096", "--tmpfs", place, "--remount-ro", place]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ROOMS["bubblewrap"]:
        words += ["--perms", "1777", "--size", str(room_kb << 10), "--tmpfs", folder]
    for folder, inside, writable in mounts:
        for above in reversed(Path(inside).parents[:-1]):  # else it makes them for root alone
            words += ["--perms", "0755", "--dir", str(above)]
        words += ["--bind" if writable else "--ro-bind", folder, inside]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/box", "--cap-drop", "ALL"]
    if uid is None:
        return [*words, "--unshare-user", "--disable-userns", "--"]
    return [*words, *(w for cap in ("SETUID", "SETGID", "SETPCAP") for w in ("--cap-add", f"CAP_{cap}")), "--"]


def unshare(
    interpreter: Interpreter, room_kb: int, files: int, uid: int | None, mounts: tuple[Bound, ...] = ()
) -> list[str]:
    """Build the command of util-linux for the same root; the words of the program follow.

    The shell stays as process 1, out of the program's reach, and dies with its parent: a program in its place could
    leave the group and clear its parent-death signal, and live on.

    Args:
        room_kb, files: size of each folder in memory, and how many files it may hold.
        mounts: folders of the host.
    """
    words = [tool("setpriv"), "--pdeathsig", "KILL", tool("unshare")]
    if uid is None:
        words += ["--user", "--map-root-user"]
    words += ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
    return [*words, tool("sh"), "-c", _script(interpreter, f"size={room_kb}k,nr_inodes={files}", mounts), "sh"]


@lru_cache(maxsize=64)  # mounts differ from program to program
def _script(interpreter: Interpreter, room: str, mounts: tuple[Bound, ...]) -> str:
    """Shell script that builds the new root, moves there, and runs its words as a child."""
    bound, rooms = _bound(interpreter), ROOMS["unshare"]
    links = [os.readlink(f"/{name}") for name in LINKS if Path("/", name).is_symlink()]
    folders = ["old", "proc", "dev", "etc", *(inside[1:] for place, inside in bound if Path(place).is_dir())]
    files = [inside[1:] for place, inside in bound if not Path(place).is_dir()]
    table = [_line(place, inside, "none", f"rbind,ro{_kept(place)}") for place, inside in bound]
    table += [_line(device, device, "none", "bind") for device in DEVICES]
    table += [_line("tmpfs", place, "tmpfs", "ro,size=4k,mode=755") for place in _masked(interpreter)]
    table += [_line("tmpfs", place, "tmpfs", f"{room},mode=1777") for place in rooms]
    table += [_line("proc", "/proc", "proc", "nosuid,nodev,noexec")]
    for folder, place, writable in mounts:
        table += [_line(folder, place, "none", f"{'bind' if writable else 'bind,ro'}{_kept(folder)},X-mount.mkdir")]
    inside = "|".join(f"*:{ROOT}{place}/*" for _, place in bound)
    return "\n".join([
        f"set -e; mount -t tmpfs -o size=1m,mode=755 tmpfs {ROOT}; cd {ROOT}",
        f"mkdir -p {shlex.join([*folders, *(place[1:] for place in rooms)])}",
        *(f": > {name}" for name in (*files, *(device[1:] for device in DEVICES))),
        f"ln -s {' '.join(link.lstrip('/') for link in links)} ." if links else "",
        "cp -P /dev/fd /dev/stdin /dev/stdout dev || :",  # links to the open files of whoever asks
        f"echo {shlex.quote(chr(10).join(table))} > table; mount -a -T table; : > table",
        "while read -r _ _ _ _ place options _; do case $options:$place in ro,*) ;;",  # what lies below a mount
        f'{inside}) mount -o "remount,bind,$options,ro" "$place";; esac; done < /proc/self/mountinfo',
        f"{tool('pivot_root')} . old; cd /; umount -l old; mount -o remount,bind,ro /",
        "cd /tmp; fd=9; [ ! -e /proc/self/fd/9 ] || fd=8",  # one is free: a program inherits one socket at most
        # a message of the shell about a signal is no output of the program
        'eval "exec $fd>&2 2>/dev/null; (exec \\"\\$@\\" 2>&$fd $fd>&-)"; exit $?',
    ])  # fmt: skip


def _line(source: str, place: str, kind: str, options: str) -> str:
    """A mount below the new root, as fstab has it."""
    words = (source, ROOT + place, kind, options)
    return " ".join(word.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011") for word in words)


def _kept(place: str) -> str:
    """The options of a mount that a user namespace may not drop."""
    flags = os.statvfs(place).f_flag
    names = {"nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}
    return "".join(f",{name}" for name, flag in names.items() if flags & flag)


@cache
def _bound(interpreter: Interpreter) -> list[tuple[str, str]]:
    """Paths of the host that are bound read-only, with their places in the new root."""
    prefix = interpreter.prefix
    parts = [name for name in OWN_PARTS if (prefix / name).is_dir() and not prefix.is_relative_to("/usr")]
    places = [("/usr", "/usr"), *((str(prefix / name), f"{seat(interpreter)}/{name}") for name in parts)]
    places += [
        (f"/{name}", f"/{name}") for name in LINKS if Path("/", name).is_dir() and not Path("/", name).is_symlink()
    ]
    places += [(str(folder), f"/packages/{name}") for name, folder in interpreter.packages]
    return [*places, *((place, place) for place in ("/etc/ld.so.cache",) if Path(place).exists())]


@cache
def _masked(interpreter: Interpreter) -> list[str]:
    """Folders below the bound paths that are hidden: packages of Python, and programs that are not the system's."""
    own = [f"{seat(interpreter)}/{path.relative_to(interpreter.prefix)}" for path in interpreter.hidden()]
    systems = [str(path) for path in package_folders(Path("/usr"))]
    used = [str(interpreter.prefix), *(tool(name) for name in TOOLS)]
    local = [place for place in MASKED if Path(place).is_dir() and not any(path.startswith(place) for path in used)]
    return list(dict.fromkeys([*own, *systems, *local]))


def seat(interpreter: Interpreter) -> str:
    """The interpreter's folder in the new root: its own path, by which its libraries find each other."""
    hidden = any(interpreter.prefix.is_relative_to(room) for rooms in ROOMS.values() for room in rooms)
    return "/python" if hidden else str(interpreter.prefix)


def inside(interpreter: Interpreter) -> tuple[str, list[str], list[str]]:
    """In the new root: the interpreter's path, its readable folders, and `NAME=FOLDER` of each package."""
    executable, prefix = interpreter.executable, interpreter.prefix
    below = executable.relative_to(prefix) if executable.is_relative_to(prefix) else Path("bin") / executable.name
    parts = [f"{seat(interpreter)}/{name}" for name in OWN_PARTS]
    packages = [f"{name}=/packages/{name}" for name, _ in interpreter.packages]
    return f"{seat(interpreter)}/{below}", [*parts, "/packages"], packages


def rooms(level: str) -> Sequence[str]:
    """The folders that a program of this level may write to."""
    return ROOMS[level]
