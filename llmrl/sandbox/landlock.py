"""Fence that needs no rights: a program inside reads the system, writes to its own folder, and reaches nobody.

Landlock closes files and signals (https://docs.kernel.org/userspace-api/landlock.html), a filter of system calls
(`llmrl.sandbox.seccomp`) the rest. The text of this file is what `llmrl.sandbox.fence` has run before each program,
in the interpreter of the program: few imports, for each costs time at every start, and no newer syntax than old
interpreters know.
"""

from __future__ import annotations

import ctypes
import os
import sys

TYPE_CHECKING = False  # no process that runs this imports the following: each start counts
if TYPE_CHECKING:
    from typing import Any

OLDEST = 3  # Linux 6.2: before, cutting a file short was open to all
SIGNALS = 6  # Linux 6.12: signals stay inside

EXECUTE, WRITE, READ, LIST = 1, 2, 4, 8
TRUNCATE, IOCTL = 1 << 14, 1 << 15
EVERYTHING = (1 << 15) - 1
OF_A_FILE = EXECUTE | WRITE | READ | TRUNCATE
KEYCTL = {"x86_64": 250, "aarch64": 219}


def offered() -> int:
    """Ask the kernel for its version of Landlock; 0 where it has none, or too old a one."""
    try:
        version = _call(444, None, 0, 1)
    except OSError:
        return 0
    return version if version >= OLDEST else 0


def fenced(version: int, rules: list[tuple[int, str]], program: bytes, subreaper: bool) -> None:
    """Put this process, and all that it will start, inside for good.

    Args:
        version: of Landlock; rights that it does not know yet stay open. 0: no rules.
        rules: rights (bits of Landlock's) below a folder, or to a file; missing places are left out.
        program: the filter of system calls; empty for none.
        subreaper: orphans become children of this process.
    Raises:
        OSError: the kernel would not; nothing untrusted may run then.
    """
    # Another session keyring than the parent's; refused by kernels without keys, and by containers that forbid them
    KERNEL.syscall(ctypes.c_long(KEYCTL.get(os.uname().machine, -1)), ctypes.c_long(1), None)
    if subreaper:
        _prctl(36, 1)
    _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    if version:
        handled = EVERYTHING | (IOCTL if version >= 5 else 0)
        words = 1 + (version >= 4) + (version >= SIGNALS)  # of: files, TCP, and abstract sockets and signals
        made = _call(444, b"".join(n.to_bytes(8, sys.byteorder) for n in (handled, 3, 3)), 8 * words, 0)
        for access, place in rules:
            _allow(made, place, access & handled)
        _call(446, made, 0)
        os.close(made)
    if program:
        lines = ctypes.create_string_buffer(program)
        head = (len(program) // 8).to_bytes(8, sys.byteorder) + ctypes.addressof(lines).to_bytes(8, sys.byteorder)
        _prctl(22, 2, head)  # PR_SET_SECCOMP, a filter


def _allow(made: int, place: str, access: int) -> None:
    try:
        below = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(place):
            access &= OF_A_FILE
        _call(445, made, 1, access.to_bytes(8, sys.byteorder) + below.to_bytes(4, sys.byteorder), 0)
    finally:
        os.close(below)


def _call(number: int, *arguments: Any) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = int(KERNEL.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"the fence, system call {number}: {os.strerror(ctypes.get_errno())}")
    return result


def _prctl(option: int, first: int, second: Any = 0) -> None:
    if KERNEL.prctl(option, ctypes.c_ulong(first), second, ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise OSError(ctypes.get_errno(), f"the fence, prctl {option}: {os.strerror(ctypes.get_errno())}")


KERNEL = ctypes.CDLL(None, use_errno=True)


class Packages:
    """Finder of the packages that the program may import, by their folders; those beside them stay hidden."""

    def __init__(self, folders: dict[str, str]) -> None:
        self.folders = folders

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self.folders:
            return None
        from importlib.util import spec_from_file_location

        folder = self.folders[name]
        return spec_from_file_location(name, f"{folder}/__init__.py", submodule_search_locations=[folder])


def run(words: list[str]) -> None:
    """Become the program: `-c SOURCE WORDS` in this interpreter, anything else in its place."""
    if words[0] != "-c":
        os.execvp(words[0], words)
    sys.argv = ["-c", *words[2:]]
    main: Any = type(sys)("__main__")
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    exec(compile(words[1], "<string>", "exec", dont_inherit=True), vars(main))


def main() -> None:
    """Read `VERSION FILTER SUBREAPER ACCESS:PLACE ... NAME=FOLDER ... -- WORDS` and run the words inside the fence."""
    cut = sys.argv.index("--")
    version, program, subreaper = sys.argv[1:4]
    rules, packages, words = [], {}, sys.argv[cut + 1 :]
    for word in sys.argv[4:cut]:
        access, is_rule, place = word.partition(":")
        if is_rule and access.isdigit():
            rules.append((int(access), place))
        else:
            name, _, folder = word.partition("=")
            packages[name] = folder
    fenced(int(version), rules, bytes.fromhex(program), subreaper == "1")
    if packages:
        sys.meta_path.append(Packages(packages))
    run(words)


if __name__ == "__main__":
    main()
