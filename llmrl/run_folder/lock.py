"""Locks on files and output folders: held while the holder lives, freed by the kernel when it is killed."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from llmrl.errors import CheckpointError

FILE = "run.lock"
"""The file in a folder that its writer locks; it names the holder, and is empty where there is none."""
NETWORK = ("nfs", "cifs", "smb", "lustre", "ceph", "gluster", "beegfs", "gpfs", "afs", "fuse.")
"""Beginnings of the names of file systems whose locks other machines may not see."""
_WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
_held: set[int] = set()  # descriptors, which forked copies of this process must not hold
log = logging.getLogger(__name__)


class FolderLock:
    """The right to write to a folder. Use as a context manager; at most one process in the world is inside.

    Args:
        folder: made where it is missing.
        instead: what to type where somebody else has it, such as `choose another train.run_name`.
        name: of the file in it that is locked.
        elsewhere: what to type where it cannot be made or written to; else `instead`.
        waiting: called with the holder, again and again, while somebody else has it; None refuses in place of waiting.
    """

    def __init__(
        self,
        folder: Path,
        instead: str,
        name: str = FILE,
        *,
        elsewhere: str = "",
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        self._path = folder / name
        self._instead = instead
        self._elsewhere = elsewhere or instead
        self._waiting = waiting

    def __enter__(self) -> Self:
        """Take the lock and write down who has it.

        Raises:
            CheckpointError: another process has it, which the message names; or the folder cannot be written to.
        """
        folder = self._path.parent
        failed = "made"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            failed = "written to"
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CheckpointError(f"{folder}: cannot be {failed}: {error.strerror}; {self._elsewhere}") from error
        try:
            if self._locked():
                _warn_of_network(folder)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "argv": sys.argv}
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, json.dumps(holder).encode() + b"\n", 0)
        except BlockingIOError:
            self._close()
            raise CheckpointError(
                f"{folder}: in use by {self._holder()}; wait until it has ended, stop it, or {self._instead}"
            ) from None
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        os.ftruncate(self._handle, 0)
        self._close()

    def _locked(self) -> bool:
        """Lock the file, as `lock` does, after waiting for its holder where that is wanted."""
        while True:
            try:
                return lock(self._handle, self._path)
            except BlockingIOError:
                if self._waiting is None:
                    raise
                self._waiting(self._holder())
                time.sleep(0.1)

    def _close(self) -> None:
        unlock(self._handle)
        os.close(self._handle)

    def _holder(self) -> str:
        try:
            holder: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process, which has not written its name yet"


def lock(handle: int, path: Path) -> bool:
    """Lock an open file until `unlock`, or until this process ends; False, and a warning, where there are no locks.

    Raises:
        BlockingIOError: somebody else has it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        log.warning(
            f"{path}: its file system has no locks ({error.strerror}): nothing keeps a second process from writing "
            "there too. Start only one, or write to a local disk"
        )
        return False
    _held.add(handle)
    return True


def unlock(handle: int) -> None:
    """Give back what `lock` took, right before the file is closed."""
    _held.discard(handle)


def file_system(folder: Path, mounts: Iterable[str]) -> str:
    """Name the file system of a folder, from lines of /proc/self/mountinfo; "" where none of them holds it."""
    place, best, kind = folder.resolve(), -1, ""
    for line in mounts:
        fields = line.split()
        point = Path(fields[4].encode().decode("unicode_escape"))  # blanks are \040
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[fields.index("-") + 1]
    return kind


def _warn_of_network(folder: Path) -> None:
    try:
        kind = file_system(folder, Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError, IndexError):  # no Linux
        return
    if kind.startswith(NETWORK):
        log.warning(
            f"{folder}: on a network file system ({kind}), where the lock may not keep other machines out: be sure "
            "that no other one writes there"
        )


def _let_go() -> None:
    """Point a forked copy's descriptors elsewhere: the lock would otherwise live as long as the copy."""
    for handle in _held:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, handle, inheritable=False)
        os.close(null)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
