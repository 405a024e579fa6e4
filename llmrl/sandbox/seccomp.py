"""Filter of system calls: refuses those that an answer never needs, and those that reach other processes.

Numbers are those of the kernel's tables (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h).
"""

from __future__ import annotations

import os
import struct
from functools import cache

# Refused with EPERM at every level.
CLOSED = {
    "x86_64": (
        *(41, 42, 49, 50, 43, 288, 46, 307),  # socket, connect, bind, listen, accept, sendmsg: pairs read and write
        *(29, 30, 31, 64, 65, 66, 220, 68, 69, 70, 71, 240, 241),  # memory, semaphores and queues that have no file
        *(101, 310, 311, 312, 279, 256),  # ptrace, process_vm_readv and -writev, kcmp, move_pages, migrate_pages
        *(141, 251),  # setpriority, ioprio_set
        *(248, 249, 250, 319),  # keys; memfd_create: memory that no process shows as its own
        *(272, 308, 165, 166, 155, 161, 303, 304),  # unshare, setns, mounts, roots, files by handle
        *(298, 321, 323, 300, 301, 103, 154),  # perf, bpf, userfaultfd, fanotify, syslog, modify_ldt
        *(163, 167, 168, 169, 170, 171, 172, 173, 153, 179, 212),  # acct, swap, reboot, names, ports, quotas
        *(246, 320, 175, 313, 176, 159, 164, 227, 305),  # kexec, modules, clocks
        *(253, 254, 294, 162, 306),  # inotify, which watches files that nobody may read; sync of all disks
    ),
    "aarch64": (
        *(198, 203, 200, 201, 202, 242, 211, 269),
        *(194, 196, 195, 190, 193, 191, 192, 186, 189, 188, 187, 180, 181),
        *(117, 270, 271, 272, 239, 238),
        *(140, 30),
        *(217, 218, 219, 279),
        *(97, 268, 40, 39, 41, 51, 264, 265),
        *(241, 280, 282, 262, 263, 116),
        *(89, 224, 225, 142, 161, 162, 58, 60, 18),
        *(104, 294, 105, 273, 106, 171, 170, 112, 266),
        *(26, 27, 81, 267),
    ),
}
# Younger calls have the same numbers everywhere: io_uring, mounts, pidfd_getfd, process_madvise, mount_setattr,
# quotactl_fd, memfd_secret, process_mrelease, open_tree_attr.
YOUNG = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 443, 447, 448, 467)
# Refused where files and sessions are shared with the host: setpgid and setsid, for by its group a program is ended;
# chmod, chown, times and marks of files, which Landlock lets through.
SHARED = {
    "x86_64": (109, 112, 90, 91, 92, 93, 94, 260, 268, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 452, 463, 466),
    "aarch64": (154, 157, 52, 53, 54, 55, 88, 5, 6, 7, 14, 15, 16, 452, 463, 466),
}
# Allowed for the process itself, which is called 0: prlimit64, sched_setparam, -scheduler, -affinity, -attr
OWN = {"x86_64": (302, 142, 144, 203, 314), "aarch64": (261, 118, 119, 122, 274)}
CLONE = {"x86_64": 56, "aarch64": 220}
SENDTO = {"x86_64": 44, "aarch64": 206}
PRCTL = {"x86_64": 157, "aarch64": 167}
CLONE3 = 435  # its flags are in memory, which a filter cannot read: without it libraries take clone
NAMESPACES = 0x7E020000  # CLONE_NEW...
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: by it orphans stay children of the program, and their memory counts
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
LOAD, EQUAL, LEAST, ANY, GIVE = 0x20, 0x15, 0x35, 0x45, 0x06
ARGUMENT = 16  # where the arguments begin, 8 bytes each


@cache
def program(shared: bool) -> bytes:
    """Assemble the filter in the kernel's form; empty on chips without a table here.

    Args:
        shared: the program shares files and sessions with the host.
    """
    machine = os.uname().machine
    if machine not in CLOSED:
        return b""
    closed = (*CLOSED[machine], *YOUNG, *(SHARED[machine] if shared else ()))
    # of each line: the code, its number, and where it jumps if that holds and if not (None: to the next line)
    lines: list[tuple[int, int, str | None, str | None]] = [
        (LOAD, 4, None, None),  # the architecture
        (EQUAL, ARCHITECTURE[machine], None, "refuse"),
        (LOAD, 0, None, None),  # the number of the call
        (LEAST, 0x40000000, "refuse", None),  # x32
        *((EQUAL, number, "refuse", None) for number in closed),
        (EQUAL, CLONE3, "missing", None),
        *((EQUAL, number, "own", None) for number in OWN[machine]),
        (EQUAL, CLONE[machine], "clone", None),
        (EQUAL, SENDTO[machine], "send", None),
        (EQUAL, PRCTL[machine], "prctl", None),
    ]
    parts: dict[str, list[tuple[int, int, str | None, str | None]]] = {
        "allow": [(GIVE, ALLOW, None, None)],
        "refuse": [(GIVE, EPERM, None, None)],
        "missing": [(GIVE, ENOSYS, None, None)],
        "own": [(LOAD, ARGUMENT, None, None), (EQUAL, 0, "allow2", "refuse2")],
        "clone": [(LOAD, ARGUMENT, None, None), (ANY, NAMESPACES, "refuse2", "allow2")],
        "prctl": [(LOAD, ARGUMENT, None, None), (EQUAL, SUBREAPER, "refuse2", "allow2")],
        "send": [  # to nobody by name: the address, a pointer, is none
            *((LOAD, ARGUMENT + 32, None, None), (EQUAL, 0, None, "refuse2")),
            *((LOAD, ARGUMENT + 36, None, None), (EQUAL, 0, "allow2", "refuse2")),
        ],
        "allow2": [(GIVE, ALLOW, None, None)],  # jumps lead forwards only
        "refuse2": [(GIVE, EPERM, None, None)],
    }
    places = {}
    for name, part in parts.items():
        places[name] = len(lines)
        lines += part
    return b"".join(
        struct.pack("=HBBI", code, *(places[to] - at - 1 if to else 0 for to in (hit, miss)), number)
        for at, (code, number, hit, miss) in enumerate(lines)
    )
