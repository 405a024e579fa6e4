"""A watched program that is killed leaves no shared memory behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path

import pytest

from llmrl.engines.server.child_process import Child

MEMORY = Path("/dev/shm")
pytestmark = pytest.mark.skipif(not MEMORY.is_dir(), reason="shared memory has no folder here")
# Like vLLM's server: it starts a core, which makes a segment and tells its own pid and the segment's name.
SERVER = """
import subprocess, sys
core = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
sys.exit(core.wait() and 1)
"""
CORE = """
import os, sys, time
from multiprocessing import shared_memory
segment = shared_memory.SharedMemory(create=True, size=1 << 20)
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{os.getpid()} {segment.name}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""


def kill_core(child: Child, core: int) -> None:
    os.kill(core, signal.SIGKILL)
    child.wait()


def kill_group(child: Child, core: int) -> None:
    os.killpg(os.getpgid(core), signal.SIGKILL)
    child.wait()


def stop(child: Child, core: int) -> None:
    child.stop()


@pytest.mark.parametrize("end", [kill_core, kill_group, stop])
def test_no_shared_memory_stays(end: Callable[[Child, int], None], tmp_path: Path) -> None:
    told = tmp_path / "told"
    before = set(os.listdir(MEMORY))
    child = Child([sys.executable, "-c", SERVER, CORE, str(told)], env=os.environ, log=tmp_path / "log")
    try:
        until = time.monotonic() + 60
        while not told.exists():
            assert time.monotonic() < until, child.tail()
            time.sleep(0.01)
        core, name = told.read_text().split()
        assert name not in before
        time.sleep(1.0)  # a crash of the first second may leave its segment
        end(child, int(core))
        assert not (MEMORY / name).exists()
    finally:
        child.stop()


def test_the_memory_of_others_stays(tmp_path: Path) -> None:
    """Also where the program has opened it."""
    segment = shared_memory.SharedMemory(create=True, size=1 << 16)
    code = f"import mmap, time; file = open({str(MEMORY / segment.name)!r}, 'r+b'); held = mmap.mmap(file.fileno(), 0)"
    code += f"; open({str(tmp_path / 'told')!r}, 'w'); time.sleep(600)"
    child = Child([sys.executable, "-c", code], env=os.environ, log=tmp_path / "log")
    try:
        while not (tmp_path / "told").exists():
            assert child.poll() is None, child.tail()
            time.sleep(0.01)
        time.sleep(1.0)
        child.stop()
        assert (MEMORY / segment.name).exists()
    finally:
        child.stop()
        segment.close()
        segment.unlink()
