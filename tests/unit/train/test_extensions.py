"""The folder of DeepSpeed's extensions: locks that a killed compile has left, and those of a living one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmrl.errors import TrainingError
from llmrl.run_folder.lock import FolderLock
from llmrl.train import extensions

HOLDS = "import os, sys, time; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL); print('held', flush=True); time.sleep(60)"

START = [sys.executable, "-c", "from llmrl.train import extensions; extensions.prepare(on_cpu=False)"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of extensions in which one is being compiled, by nobody yet."""
    monkeypatch.setenv(extensions.FOLDER, str(tmp_path))
    (tmp_path / "deepspeed_shm_comm").mkdir()
    return tmp_path


def compiling(lock: Path) -> subprocess.Popen[str]:
    """A process that holds torch's lock as a compile does."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_of_a_killed_compile_is_removed(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lock = place / "deepspeed_shm_comm" / "lock"
    with compiling(lock) as process:
        process.kill()
    assert lock.exists()
    assert not extensions.compiled()
    extensions.prepare(on_cpu=False)
    assert not lock.exists()
    assert f"removed {lock}" in capfd.readouterr().err


def test_a_living_compile_is_waited_for_by_name(place: Path) -> None:
    lock = place / "deepspeed_shm_comm" / "lock"
    with compiling(lock) as process, subprocess.Popen(START, stderr=subprocess.PIPE, text=True) as start:
        assert start.stderr is not None
        assert start.stderr.readline() == f"llmrl: waiting for process {process.pid}, which compiles in {lock.parent}\n"
        assert lock.exists()
        assert start.poll() is None
        process.kill()
        process.wait()
        assert start.wait(60) == 0
    assert not lock.exists()


def test_a_compiler_whose_start_was_killed_is_waited_for(place: Path) -> None:
    """Ninja and the compiler go on without the process that started them, and write into the folder."""
    ninja = subprocess.Popen(["sleep", "1.5"], cwd=place / "deepspeed_shm_comm")
    began = time.monotonic()
    while not list(extensions._owners(place / "deepspeed_shm_comm")):
        assert time.monotonic() - began < 30
    extensions.prepare(on_cpu=False)
    assert ninja.wait(0.5) == 0


def test_waiting_has_an_end(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "PATIENCE_S", 0.0)
    with compiling(place / "deepspeed_shm_comm" / "lock") as process:
        with pytest.raises(TrainingError, match=f"given up after 0 s of waiting for process {process.pid}"):
            extensions.prepare(on_cpu=False)
        process.kill()


def test_starts_take_turns(place: Path) -> None:
    first = FolderLock(place, "", "compiling.lock")
    first.__enter__()
    with subprocess.Popen(START, stderr=subprocess.PIPE, text=True) as start:
        assert start.stderr is not None
        assert f"waiting for process {os.getpid()} on" in start.stderr.readline()
        assert start.poll() is None
        first.__exit__()
        assert start.wait(60) == 0


def test_each_environment_has_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(extensions.FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = extensions.folder()
    assert here.is_relative_to(tmp_path)
    monkeypatch.setattr(sys, "prefix", "/another")
    assert extensions.folder() != here
