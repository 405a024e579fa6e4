"""Rules of the fence for each level, as words of the command line that `landlock.py` reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from llmrl.sandbox import landlock, seccomp
from llmrl.sandbox.interpreter import Interpreter, library, package_folders, without
from llmrl.sandbox.landlock import EVERYTHING, EXECUTE, LIST, READ, TRUNCATE, WRITE

SEEN = EXECUTE | READ | LIST
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PROGRAMS = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec")
LINKS = ("bin", "sbin", "lib", "lib32", "lib64")  # of the root: links into /usr, or folders of their own
SHARED = ("/usr/share/zoneinfo", "/usr/share/terminfo", "/usr/share/locale", "/usr/share/i18n", "/etc/ld.so.cache")


@cache
def fence_version() -> int:
    """Version of Landlock; 0 for none, and then the filter of system calls stands alone."""
    return landlock.offered()


def fenced(
    interpreter: Sequence[str], own: Sequence[str], library: Sequence[tuple[int, str]], packages: Sequence[str],
    words: Sequence[str], *, shared: bool,
) -> list[str]:  # fmt: skip
    """Build the command line that puts a program inside the fence.

    Args:
        interpreter: its command, by which the fence is put up.
        own: the folders that the program may write to.
        library: rights and places that it may read besides the system.
        packages: `NAME=FOLDER` of each package that it may import.
        words: the program; `-c SOURCE` and words for the interpreter to go on with.
        shared: files, sessions and processes of the host are within reach: level subprocess or uid.
    """
    rules: list[tuple[int, str]] = []
    if fence_version():
        rules = [*((EVERYTHING, place) for place in own), *library]
        rules += _system() if shared else [(SEEN, place) for place in (*PROGRAMS, *_folders(), *SHARED)]
        rules += [(READ | WRITE | TRUNCATE, place) for place in DEVICES]
    told = [f"{access}:{place}" for access, place in rules]
    head = [str(fence_version()), seccomp.program(shared).hex(), str(int(shared))]
    return [*interpreter, "-c", _text(), *head, *told, *packages, "--", *words]


@cache
def library_of(interpreter: Interpreter) -> tuple[tuple[int, str], ...]:
    """Rules for an interpreter at its own path: its modules, and the lists of their folders, by which it finds them."""
    files = [(SEEN, str(path)) for path in library(interpreter)]
    tops = [(LIST, str(path)) for path in sorted(interpreter.prefix.glob("lib*/python3*")) if path.is_dir()]
    return (*files, *tops, *((SEEN, str(folder)) for _, folder in interpreter.packages))


@cache
def _system() -> list[tuple[int, str]]:
    """Rules for the host's system folders, without its packages for Python, which may be ours."""
    hidden = package_folders(Path("/usr"))
    places = [Path(place) for place in (*PROGRAMS, *_folders()) if Path(place).is_dir()]
    kept = [str(path) for place in places if not place.is_symlink() for path in without(place, hidden)]
    return [(SEEN, place) for place in (*kept, *SHARED)]


@cache
def _folders() -> list[str]:
    """Folders of the root that are no links into /usr."""
    return [f"/{name}" for name in LINKS if Path("/", name).is_dir() and not Path("/", name).is_symlink()]


@cache
def _text() -> str:
    return Path(landlock.__file__).read_text(encoding="utf-8")
