"""Programs behind walls: what comes out, what ends them, what is refused. The hostile ones are in integration."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from pathlib import Path

import pytest

from llmrl import sandbox
from llmrl.cells import slot
from llmrl.confine import LEVELS, Level, Limits, command
from llmrl.errors import SandboxError
from llmrl.sandbox import Outcome, Program, Sandbox, available

WORKING: list[Level] = [level for level in LEVELS if not available()[level]]
ROOMY = Limits(wall_s=60.0, cpu_s=20.0, memory_mb=512)  # a machine may be busy


def run(level: Level, source: str, stdin: bytes = b"", limits: Limits = ROOMY) -> Outcome:
    return Sandbox(min_level="subprocess", level=level, limits=limits).run(["python", "-c", source], stdin)


def test_a_level_works_here() -> None:
    assert WORKING


@pytest.mark.parametrize("level", WORKING)
def test_what_a_program_reads_and_writes(level: Level) -> None:
    done = run(level, "import sys; print(sys.stdin.read()[::-1], end=''); sys.stderr.write('no'); sys.exit(3)", b"abc")
    assert (done.kind, done.code, done.stdout, done.stderr) == ("exited", 3, b"cba", b"no")


@pytest.mark.parametrize("level", WORKING)
def test_a_program_sees_nothing_of_ours(level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    done = run(level, "import os; print(*sorted(os.environ)); print(os.getuid(), os.listdir('.'))")
    names, where = done.stdout.decode().splitlines()
    assert set(names.split()) <= {
        "HOME",
        "LANG",
        "LC_CTYPE",
        "LLMRL_SANDBOX",
        "OLDPWD",
        "PATH",
        "PWD",
        "PYTHONHASHSEED",
    }
    assert where.endswith(" []")
    assert where.split()[0] != "0" or os.geteuid() != 0


@pytest.mark.parametrize("level", WORKING)
def test_time_ends_a_program(level: Level) -> None:
    done = run(level, "import time; time.sleep(600)", limits=Limits(wall_s=0.5))
    assert done.kind == "timeout"
    assert done.seconds < 60


@pytest.mark.parametrize("level", WORKING)
def test_output_is_bounded(level: Level) -> None:
    done = run(level, "while True: print('x' * 9999)", limits=Limits(wall_s=60.0, output_kb=100))
    assert done.kind == "output"
    assert len(done.stdout) == 100 << 10


@pytest.mark.parametrize("level", [level for level in WORKING if level != "subprocess"])
def test_a_program_that_leaves_its_group_does_not_live_on(level: Level) -> None:
    word = f"word-{secrets.token_hex(8)}"
    source = f"""
import contextlib, ctypes, os, time
with contextlib.suppress(OSError):
    os.setsid()
ctypes.CDLL(None).prctl(1, 0)  # PR_SET_PDEATHSIG: none
print(os.getpid(), flush=True)
time.sleep(60)  # {word}
"""
    done = run(level, source, limits=Limits(wall_s=2.0))
    assert (done.kind, done.stdout != b"1\n") == ("timeout", True)
    deadline = time.monotonic() + 10.0
    while _running(word) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _running(word)


def _running(word: str) -> list[Path]:
    """The processes with this word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [path] if word.encode() in path.read_bytes() else []
    return found


@pytest.mark.parametrize("level", WORKING)
def test_a_signal_that_ends_a_program_is_told_and_nothing_is_added(level: Level) -> None:
    done = run(level, "import os, signal; os.write(2, b'mine'); os.kill(os.getpid(), signal.SIGABRT)")
    assert (done.kind, done.code, done.stderr) == ("signal", signal.SIGABRT, b"mine")


def test_memory_of_all_processes_together_is_bounded() -> None:
    source = "import os, time\nfor _ in range(3): os.fork()\nx = bytearray(60 << 20)\ntime.sleep(60)"
    assert run(WORKING[-1], source, limits=Limits(wall_s=60.0, memory_mb=200)).kind == "memory"


def test_the_first_to_end_ends_all() -> None:
    sleeper = Program(["python", "-c", "import time; time.sleep(600)"])
    first, second = Sandbox(min_level="subprocess", limits=ROOMY).together(Program(["python", "-c", "pass"]), sleeper)
    assert (first.kind, second.kind) == ("exited", "stopped")


def test_nothing_runs_below_the_least_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "probe", lambda level: "" if level in ("subprocess", "uid") else "not here")
    assert Sandbox(min_level="uid").in_force() == "uid"
    with pytest.raises(
        SandboxError, match=r"level unshare or above.*unshare: not here; bubblewrap: not here.*min_level"
    ):
        Sandbox(min_level="unshare").in_force()
    with pytest.raises(SandboxError, match="subprocess: below unshare"):
        Sandbox(min_level="unshare", level="subprocess").in_force()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_programs_that_run_at_once_are_different_users() -> None:
    with slot() as one, slot() as two:
        assert one != two
    with slot() as three:
        assert three == one


def test_a_folder_of_locks_that_is_not_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "llmrl-sandbox").mkdir(mode=0o777)
    (tmp_path / "llmrl-sandbox").chmod(0o777)
    with pytest.raises(SandboxError, match="expected a folder of ours"), slot():
        pass


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None if name == "bwrap" else f"/usr/bin/{name}")
    with pytest.raises(SandboxError, match="bwrap is not installed; expected the system package bubblewrap"):
        command("bubblewrap", ROOMY, ["true"], None)


def test_limits_are_above_zero() -> None:
    with pytest.raises(ValueError, match="expected limits above 0"):
        Limits(wall_s=0)
