"""Give each program in a sandbox a user, a folder and its input, and remove all that it leaves behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from llmrl.errors import SandboxError
from llmrl.sandbox.tools import tool

KILL_S = 3.0
UIDS = range(61000, 61128)  # one for each program that runs at once; systemd and Debian give these to nobody
OPEN_TO_ALL = ("/tmp", "/var/tmp", "/dev/shm")
LOCKS = Path("/tmp/llmrl-sandbox")  # whatever TMPDIR says, which may differ between jobs that share these users
MARK = "LLMRL_SANDBOX"  # in the environment of each program: by it level subprocess finds those that left their group


@contextlib.contextmanager
def slot() -> Iterator[int]:
    """Lock a user id that no other program on this machine runs under, for as long as it is needed.

    Raises:
        SandboxError: all are in use, or the folder of locks is not ours.
    """
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    status = LOCKS.lstat()
    if LOCKS.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise SandboxError(f"{LOCKS}: expected a folder of ours that nobody else may write to; remove it")
    for uid in UIDS:
        with claimed(uid) as ours:
            if ours:
                yield uid
                return
    raise SandboxError(f"{len(UIDS)} programs run in sandboxes already; expected fewer at once")


@contextlib.contextmanager
def claimed(uid: int) -> Iterator[bool]:
    """Lock a user id if nobody else holds it, and end the processes of a holder that was killed.

    The lock's file holds a mark while the user is in use, which only a killed holder leaves behind.
    """
    lock = os.open(LOCKS / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not locked(lock):
            yield False
            return
        if os.pread(lock, 1, 0):
            kill_all_of(uid)
        os.pwrite(lock, b"1", 0)
        yield True
        os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def folder_for(uid: int | None) -> str:
    """Make a folder on disk for a program to write to."""
    folder = tempfile.mkdtemp(prefix="llmrl-box-")
    if uid is not None:
        os.chown(folder, uid, uid)
    return folder


def overfull(folder: str, files: int, kilobytes: int) -> bool:
    """Tell whether a folder holds more files and folders than this, or larger ones, or deeper ones than paths reach."""
    waiting, number, size = [folder], 0, 0
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    number += 1
                    size += status.st_blocks * 512
                    if number > files or size > kilobytes << 10:
                        return True
                    waiting += [entry.path] if stat.S_ISDIR(status.st_mode) else []
    except FileNotFoundError:  # it is being changed: the next look will tell
        return False
    except OSError:  # too deep, or a folder that its owner may write to and not read
        return True
    return False


def full_of_files(root: str, rooms: Sequence[str], files: int) -> bool:
    """Tell whether a folder in memory of the namespace with this `root` holds more files than this.

    While the namespace is being built its root is still the host's, whose files are not the program's.
    """
    for room in rooms:
        with contextlib.suppress(OSError):
            if Path(root + room).stat().st_dev == _device(room):
                continue
            room_status = os.statvfs(root + room)
            if room_status.f_files - room_status.f_ffree > files:
                return True
    return False


def _device(path: str) -> int | None:
    """The file system of a folder here; None where there is no such folder."""
    with contextlib.suppress(OSError):
        return Path(path).stat().st_dev
    return None


@contextlib.contextmanager
def sealed(data: bytes) -> Iterator[int]:
    """Make a read-only file in memory that holds these bytes."""
    file = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(file, "wb", closefd=False) as stream:
            stream.write(data)
        os.lseek(file, 0, os.SEEK_SET)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        yield file
    finally:
        os.close(file)


def kill_all_of(uid: int) -> None:
    """End every process of a user by one system call, which no forking outruns, repeated for at most `KILL_S`."""
    words = [tool("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups", tool("sh"), "-c", "kill -KILL -1"]
    deadline = time.monotonic() + KILL_S
    while living(uid) and time.monotonic() < deadline:
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, check=False)
        time.sleep(0.01)


def living(uid: int) -> bool:
    """Tell whether a process of this user still runs; a zombie does not."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == uid and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return True
    return False


def kill_left(session: int, mark: str) -> None:
    """End the processes of a session, and those that carry this mark, until there are none.

    Behind the fence no process leaves its session; without it, one that also sheds its mark stays.
    """
    for _ in range(100):
        left = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _belongs(path, session, mark)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.01)


def _belongs(process: Path, session: int, mark: str) -> bool:
    try:
        state, _, _, its_session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
        return state != "Z" and (
            int(its_session) == session or f"{MARK}={mark}".encode() in (process / "environ").read_bytes()
        )
    except OSError:
        return False


def sweep(uid: int) -> None:
    """Remove a user's files in the folders that all may write to; behind the fence nobody can leave any."""
    for place in OPEN_TO_ALL:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_uid != uid:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        remove(entry.path)
                    else:
                        os.unlink(entry.path)


def remove(folder: str) -> None:
    """Remove a folder by rm, which walks trees of any depth and follows no link inside."""
    words = [
        "sh",
        "-c",
        'rm -rf --one-file-system -- "$1" || { chmod -R u+rwx -- "$1"; rm -rf --one-file-system -- "$1"; }',
    ]
    subprocess.run([*words, "sh", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
