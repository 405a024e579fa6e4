"""A fence that needs no rights: a program inside may read the system, write to its own folder, and reach nobody.

Landlock closes files and signals (https://docs.kernel.org/userspace-api/landlock.html), a filter of system calls the
rest: sockets, other sessions, the rights and marks of files, and doors of the kernel that an answer never needs.
`llmrl.sandbox.isolation` runs the text of this file before each program, by the interpreter that the
program will have: few imports, for each costs time at every start, and no newer syntax than old interpreters know.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

OLDEST = 3  # Linux 6.2: before, cutting a file short was open to all
SIGNALS = 6  # Linux 6.12: signals stay inside

EXECUTE, WRITE, READ, LIST = 1, 2, 4, 8
TRUNCATE, IOCTL = 1 << 14, 1 << 15
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")

# Refused with EPERM, by the numbers that the kernel has for them. The last three are younger, and the same everywhere.
CLOSED = {
    "x86_64": (
        *(41, 109, 112),  # socket; setpgid, setsid: by its session a program is ended
        *(29, 30, 31, 64, 65, 66, 220, 68, 69, 70, 71, 240, 241),  # memory, semaphores and queues that have no file
        *(90, 91, 92, 93, 94, 260, 268),  # chmod and chown, which Landlock lets through
        *(132, 235, 261, 280, 188, 189, 190, 197, 198, 199),  # utime and setxattr: as these
        *(101, 311, 141, 251),  # ptrace, process_vm_writev, setpriority, ioprio_set
        *(248, 249, 250, 272, 308),  # keys, unshare, setns
        *(298, 321, 323, 425),  # perf_event_open, bpf, userfaultfd, io_uring_setup, which has sockets of its own
        *(452, 463, 466),  # fchmodat2, setxattrat, removexattrat
    ),
    "aarch64": (
        *(198, 154, 157),
        *(194, 196, 195, 190, 193, 191, 192, 186, 189, 188, 187, 180, 181),
        *(52, 53, 54, 55),
        *(88, 5, 6, 7, 14, 15, 16),
        *(117, 271, 140, 30),
        *(217, 218, 219, 97, 268),
        *(241, 280, 282, 425),
        *(452, 463, 466),
    ),
}
# Allowed for the process itself, which is called 0: prlimit64, sched_setparam, -scheduler, -affinity, -attr
OWN = {"x86_64": (302, 142, 144, 203, 314), "aarch64": (261, 118, 119, 122, 274)}
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def offered() -> int:
    """The version of Landlock that this machine offers; 0 where there is no fence: too old a kernel, or other chips."""
    try:
        version = _call(444, None, 0, 1)
    except OSError:
        return 0
    return version if version >= OLDEST and os.uname().machine in CLOSED else 0


def fenced(version: int, folder: str, readable: list[str]) -> None:
    """Put this process, and all that it will start, inside for good.

    Args:
        version: of Landlock; a restriction that it does not know yet is left out.
        folder: the only place to write to.
        readable: folders that may be read besides the system.
    Raises:
        OSError: the kernel refuses; nothing untrusted may run then.
    """
    everything = (1 << 15) - 1 | (IOCTL if version >= 5 else 0)
    words = 1 + (version >= 4) + (version >= SIGNALS)  # of: files, TCP, and abstract sockets and signals
    rules = _call(444, struct.pack("=QQQ", everything, 3, 3), 8 * words, 0)
    for place in (folder, *SYSTEM, *readable, *DEVICES):
        if os.path.exists(place):
            _allow(rules, place, everything if place == folder else EXECUTE | READ | LIST)
    _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    _call(446, rules, 0)
    os.close(rules)
    program = _filter()
    lines = ctypes.create_string_buffer(program)
    _prctl(22, 2, struct.pack("@HP", len(program) // 8, ctypes.addressof(lines)))  # PR_SET_SECCOMP, a filter


def _allow(rules: int, place: str, access: int) -> None:
    if not os.path.isdir(place):
        access = READ | WRITE | TRUNCATE if place in DEVICES else access & (EXECUTE | READ)
    below = os.open(place, os.O_PATH | os.O_CLOEXEC)
    _call(445, rules, 1, struct.pack("=Qi", access, below), 0)
    os.close(below)


def _filter() -> bytes:
    """A BPF program that refuses closed system calls, calls on other processes, and calls of another architecture."""
    machine = os.uname().machine
    closed, own = CLOSED[machine], OWN[machine]
    load, equal, least, give = 0x20, 0x15, 0x35, 0x06
    check = 5 + len(closed) + len(own)  # positions of lines: a jump holds the number of lines that it skips
    refuse = check + 3
    lines = [
        (load, 0, 0, 4),  # the architecture
        (equal, 0, refuse - 2, ARCHITECTURE[machine]),
        (load, 0, 0, 0),  # the number of the call
        (least, refuse - 4, 0, 0x40000000),  # x32
    ]
    lines += [(equal, refuse - 5 - i, 0, number) for i, number in enumerate(closed)]
    lines += [(equal, check - 5 - len(closed) - i, 0, number) for i, number in enumerate(own)]
    lines += [(give, 0, 0, 0x7FFF0000)]  # allowed
    lines += [(load, 0, 0, 16), (equal, 0, 1, 0), (give, 0, 0, 0x7FFF0000)]  # if its first argument is 0
    lines += [(give, 0, 0, 0x00050001)]  # EPERM
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _call(number: int, *arguments: int | bytes | None) -> int:
    kernel = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = int(kernel.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock, system call {number}: {os.strerror(ctypes.get_errno())}")
    return result


def _prctl(option: int, first: int, second: int | bytes = 0) -> None:
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.prctl(option, ctypes.c_ulong(first), second, ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    _, _version, _folder, *_rest = sys.argv
    _cut = _rest.index("--")
    fenced(int(_version), _folder, _rest[:_cut])
    os.execvp(_rest[_cut + 1], _rest[_cut + 1 :])
