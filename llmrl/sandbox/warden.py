"""Warden: a process beside each grader that ends its programs if it is killed, and removes their folders.

A grader that takes too long is killed with its group; what it had started would live on, and its folders stay. And a
folder with many files takes longer to remove than a grader has. So both are the warden's, with a clock of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import IO, Any, cast

from llmrl.sandbox.cleanup import claimed, kill_left, remove

LEAVE_S = 1.0  # to see it end; it may still remove folders after that
START = "import sys; sys.path[:0] = {path!r}; from llmrl.sandbox.warden import main; main()"


class Warden:
    """The warden of this process, started at the first message. Usable from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0  # a fork has a warden of its own
        self._guarded: dict[int | str, Any] = {}  # what a warden that is started anew must be told

    def guard(self, group: int, uid: int | None, mark: str, folder: str) -> None:
        """Have this process group and this user's processes ended, and the folder removed, if this process dies."""
        self._guard({"guard": group, "uid": uid, "mark": mark, "folder": folder})

    def watch(self, folder: str) -> None:
        """Have a folder removed if this process dies before it releases it by its path."""
        self._guard({"guard": folder, "folder": folder})

    def release(self, group: int | str) -> None:
        """Have the folder of a group that has ended removed soon."""
        with self.lock:
            self._tell({"release": group})
            self._guarded.pop(group, None)

    def _guard(self, message: Any) -> None:
        with self.lock:
            self._tell(message)
            self._guarded[message["guard"]] = message

    def leave(self) -> None:
        """Close the warden's input, at which it ends; also happens when the interpreter exits."""
        if self.owner != os.getpid():
            return
        with self.lock:
            if self.process is not None:
                cast("IO[bytes]", self.process.stdin).close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(timeout=LEAVE_S)
                self.process = None

    def _tell(self, message: Any) -> None:
        """Send a message to the warden, and to a new one where somebody has ended it."""
        if self.owner != os.getpid():
            self._guarded = {}
            self._start()
        elif self.process is None or self.process.poll() is not None:  # its pipe may still be open in a dying child
            self._start()
        try:
            self._send(message)
        except BrokenPipeError:
            self._start()
            self._send(message)

    def _send(self, message: Any) -> None:
        os.write(self._pipe(), json.dumps(message).encode() + b"\n")

    def _pipe(self) -> int:
        return cast("IO[bytes]", cast("subprocess.Popen[bytes]", self.process).stdin).fileno()

    def _start(self) -> None:
        if self.process is None:
            atexit.register(self.leave)
        else:
            cast("IO[bytes]", self.process.stdin).close()
            self.process.poll()
        words = [sys.executable, "-c", START.format(path=[entry or os.getcwd() for entry in sys.path])]
        nowhere = subprocess.DEVNULL
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True, cwd="/"
        )
        self.owner = os.getpid()
        for message in self._guarded.values():
            self._send(message)


def main() -> None:
    """Read groups to guard and to release; at the end of the input end all that are guarded."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # it ends with its input, and never before
        signal.signal(number, signal.SIG_IGN)
    guarded: dict[int | str, Any] = {}
    removers: list[threading.Thread] = []

    def removed(folder: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        if not os.path.isdir(folder):
            return
        removers.append(threading.Thread(target=remove, args=(folder,)))
        removers[-1].start()

    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "guard" in message:
            guarded[message["guard"]] = message
        elif released := guarded.pop(message["release"], None):
            removed(released["folder"])
        removers[:] = [thread for thread in removers if thread.is_alive()]
    for group, message in guarded.items():
        if isinstance(group, str):  # its programs die with the grader
            removed(group)
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        if message["uid"] is not None:
            with claimed(message["uid"]):  # which ends what the grader left; a next holder has done so already
                pass
        else:
            kill_left(group, message["mark"])
        removed(message["folder"])
