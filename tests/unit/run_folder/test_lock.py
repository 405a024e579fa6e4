"""Locks of output folders: two writers, killed holders, forked and started children, file systems without locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmrl.errors import CheckpointError, LlmrlError
from llmrl.run_folder import lock
from llmrl.run_folder.jsonl import Journal
from llmrl.run_folder.lock import FolderLock, file_system

ROOT = Path(__file__).parents[3]
HOLDER = """
import multiprocessing, os, subprocess, sys, time
from pathlib import Path
from llmrl.run_folder.jsonl import Journal
from llmrl.run_folder.lock import FolderLock

class Lines(Journal):
    def _read(self, lines):
        list(lines)

with FolderLock(Path(sys.argv[1]), "go away"), Lines(Path(sys.argv[1]) / "lines.jsonl"):
    children = []
    if sys.argv[2] == "fork":
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
    elif sys.argv[2] == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        process.start()
        child = process.pid
    else:
        child = subprocess.Popen(["sleep", "600"], close_fds=False).pid
    print(child, flush=True)
    time.sleep(600)
"""


class Lines(Journal):
    def _read(self, lines: Iterator[tuple[int, bytes]]) -> None:
        list(lines)


def freed(path: Path) -> bool:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[str], tuple[subprocess.Popen[str], int]]]:
    """Start a process that holds the folder, and a child of it; both are killed after the test."""
    started: list[int] = []
    processes: list[subprocess.Popen[str]] = []

    def start(child: str) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), child],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        assert process.stdout is not None
        started.extend((process.pid, int(process.stdout.readline())))
        return process, started[-1]

    yield start
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in processes:
        process.communicate()


@pytest.mark.parametrize("child", ["fork", "multiprocessing", "exec"])
def test_a_folder_is_free_when_its_holder_was_killed_whatever_it_had_started(
    child: str, tmp_path: Path, holder: Callable[[str], tuple[subprocess.Popen[str], int]]
) -> None:
    process, left = holder(child)
    held = rf"in use by process {process.pid} on {socket.gethostname()}, since \d{{4}}-.*; wait .* or go away"
    with pytest.raises(CheckpointError, match=held), FolderLock(tmp_path, "go away"):
        pass
    with pytest.raises(LlmrlError, match="another process is writing it"), Lines(tmp_path / "lines.jsonl"):
        pass
    process.kill()
    process.wait()
    os.kill(left, 0)  # it lives on
    until = time.monotonic() + 60
    while not freed(tmp_path / lock.FILE) and time.monotonic() < until:
        time.sleep(0.05)  # a copy lets go as soon as it runs
    with FolderLock(tmp_path, "go away"), Lines(tmp_path / "lines.jsonl"):
        assert json.loads((tmp_path / lock.FILE).read_text())["pid"] == os.getpid()


def test_a_fork_that_ends_leaves_the_lock_with_its_holder(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "go away"):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(CheckpointError, match=f"process {os.getpid()} on"), FolderLock(tmp_path, "go away"):
            pass
    assert (tmp_path / lock.FILE).read_text() == "", "given back"
    with FolderLock(tmp_path, "go away"):
        pass


def test_a_holder_that_has_not_written_its_name(tmp_path: Path) -> None:
    with (tmp_path / lock.FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="in use by another process"), FolderLock(tmp_path, "go away"):
            pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError, match=r"taken: cannot be made: .*; go away"):
        FolderLock(tmp_path / "taken", "go away").__enter__()


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_file: object, _operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)  # no file system without them can be mounted in a test
    with caplog.at_level(logging.WARNING), FolderLock(tmp_path, "go away"), Lines(tmp_path / "lines.jsonl"):
        pass
    assert [record.getMessage().partition(": its file system")[0] for record in caplog.records] == [
        str(tmp_path / lock.FILE),
        str(tmp_path / "lines.jsonl"),
    ]
    assert "Start only one" in caplog.text


def test_a_network_file_system_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mounts = [
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
        f"22 21 0:40 / {tmp_path}/a\\040b rw - nfs4 host:/home rw",
        f"23 22 0:41 / {tmp_path}/a\\040b/local rw - xfs /dev/sdb rw",
    ]
    (tmp_path / "a b" / "local").mkdir(parents=True)
    assert file_system(tmp_path / "a b" / "runs", mounts) == "nfs4"
    assert file_system(tmp_path / "a b" / "local" / "runs", mounts) == "xfs"
    assert file_system(tmp_path, mounts) == "ext4"
    monkeypatch.setattr(lock, "file_system", lambda _folder, _mounts: "nfs4")
    with caplog.at_level(logging.WARNING), FolderLock(tmp_path, "go away"):
        pass
    assert "on a network file system (nfs4)" in caplog.text
