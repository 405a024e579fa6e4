"""Programs behind walls: what comes out, what ends them, what is refused. The hostile ones are in integration."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmrl.errors import SandboxError
from llmrl.sandbox import fence, landlock
from llmrl.sandbox import run as sandbox
from llmrl.sandbox.cleanup import slot, sweep
from llmrl.sandbox.fence import fence_version
from llmrl.sandbox.inmate import Outcome, Program
from llmrl.sandbox.interpreter import ours
from llmrl.sandbox.isolation import LEVELS, Cell, Level, Limits, command
from llmrl.sandbox.run import Sandbox, available
from llmrl.sandbox.tools import tool

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
        "OPENBLAS_NUM_THREADS",
        "PATH",
        "PWD",
        "PYTHONHASHSEED",
        "TMPDIR",
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


@pytest.mark.parametrize("level", [level for level in WORKING if level != "subprocess" or fence_version()])
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
    monkeypatch.setattr("llmrl.sandbox.cleanup.LOCKS", tmp_path / "llmrl-sandbox")
    (tmp_path / "llmrl-sandbox").mkdir(mode=0o777)
    (tmp_path / "llmrl-sandbox").chmod(0o777)
    with pytest.raises(SandboxError, match="expected a folder of ours"), slot():
        pass


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None if name == "bwrap" else f"/usr/bin/{name}")
    tool.cache_clear()
    with pytest.raises(SandboxError, match="bwrap is not installed; expected the system package bubblewrap"):
        command(Cell(level="bubblewrap"), ROOMY, ["true"])
    tool.cache_clear()


def test_limits_are_above_zero() -> None:
    with pytest.raises(ValueError, match="expected limits above 0"):
        Limits(wall_s=0)


# By a program that runs as we do: the fence alone stands between it and what is ours.
OPEN = {
    "its folder": "open('a', 'w').write('x'); print(open('a').read())",
    "temporary files": "import tempfile; tempfile.TemporaryFile().write(b'x'); print('x')",
    "programs of the system": "import subprocess; print(subprocess.run(['echo', 'x'], stdout=-1).stdout.decode())",
    "pairs of sockets": "import socket; a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1).decode())",
    "devices": "open('/dev/null', 'w').write('x'); print('x' if open('/dev/urandom', 'rb').read(1) else '')",
    "its own limits": "import os, resource; resource.prlimit(0, resource.RLIMIT_NOFILE, (32, 32)); "
    "os.sched_setaffinity(0, os.sched_getaffinity(0)); print('x')",
    "threads": "import threading; t = threading.Thread(target=print, args=('x',)); t.start(); t.join()",
}
CLOSED = {
    "files of ours": "open(MINE)",
    "lists of files": "import os; os.listdir('/tmp')",
    "writing": "open(MINE, 'w')",
    "new files": "open(MINE + '2', 'w')",
    "cutting": "import os; os.truncate(MINE, 0)",
    "removing": "import os; os.unlink(MINE)",
    "links": "import os; os.link(MINE, 'mine')",
    "rights": "import os; os.chmod(MINE, 0)",
    "times": "import os; os.utime(MINE)",
    "marks": "import os; os.setxattr(MINE, 'user.x', b'x')",
    "processes": "open('/proc/self/environ')",
    "signals": "import os; os.kill(PARENT, 0)",
    "the network": "import socket; socket.socket()",
    "sockets of the machine": "import socket; socket.socket(socket.AF_UNIX)",
    "another session": "import os; os.setsid()",
    "another group": "import os; os.setpgid(0, 0)",
    "limits of others": "import resource; resource.prlimit(PARENT, resource.RLIMIT_CPU, (1, 1))",
    "cores of others": "import os; os.sched_setaffinity(PARENT, {0})",
    "turns of others": "import os; os.setpriority(os.PRIO_PROCESS, PARENT, 19)",
    "shared memory": "import ctypes; c = ctypes.CDLL(None, use_errno=True); c.shmget(1, 1, 0o1600); "
    "raise OSError(ctypes.get_errno(), 'shmget')",
    "other calls": "import ctypes; c = ctypes.CDLL(None, use_errno=True); c.syscall(425, 1, 0); "
    "raise OSError(ctypes.get_errno(), 'io_uring_setup')",
}


def behind_the_fence(
    tmp_path: Path, source: str, version: int, monkeypatch: pytest.MonkeyPatch
) -> subprocess.CompletedProcess[bytes]:
    mine, folder = tmp_path / "mine", tmp_path / "folder"
    mine.write_text("mine")
    folder.mkdir(exist_ok=True)
    source = source.replace("MINE", repr(str(mine))).replace("PARENT", str(os.getpid()))
    monkeypatch.setattr(fence, "fence_version", lambda: version)
    python, library = [str(Path(sys.executable).resolve()), "-S"], fence.library_of(ours())
    return subprocess.run(
        fence.fenced(python, [str(folder)], library, [], ["-c", source], shared=True),
        cwd=folder,
        env={"TMPDIR": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not fence_version(), reason="this kernel has no fence")
@pytest.mark.parametrize("what", OPEN)
def test_inside_the_fence(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in {landlock.OLDEST, fence_version()}:
        assert behind_the_fence(tmp_path, OPEN[what], version, monkeypatch).stdout.strip() == b"x"


@pytest.mark.skipif(not fence_version(), reason="this kernel has no fence")
@pytest.mark.parametrize("what", CLOSED)
def test_outside_the_fence(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in {landlock.OLDEST, fence_version()}:
        done = behind_the_fence(tmp_path, CLOSED[what], version, monkeypatch)
        if what == "signals" and version < landlock.SIGNALS:
            assert done.returncode == 0  # as docs/sandbox.md says
        else:
            assert b"PermissionError" in done.stderr or b"cross-device link" in done.stderr
        assert (tmp_path / "mine").read_text() == "mine"


NO_SOCKETS = """
import socket
try: socket.socket()
except PermissionError: print('no socket')
open('/tmp/llmrl-left', 'w')
print('ran')
"""


def test_where_there_is_no_fence_programs_run_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("fence", "inmate", "run"):
        monkeypatch.setattr(f"llmrl.sandbox.{module}.fence_version", lambda: 0)
    level: Level = "uid" if os.geteuid() == 0 else "subprocess"
    done = run(level, NO_SOCKETS)
    assert done.stdout == b"no socket\nran\n"
    if level == "uid":
        assert not Path("/tmp/llmrl-left").exists()
    Path("/tmp/llmrl-left").unlink(missing_ok=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of others")
def test_what_a_user_left_is_removed_and_no_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrl.sandbox.cleanup.OPEN_TO_ALL", (str(tmp_path / "open"), str(tmp_path / "missing")))
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o500)
    place = tmp_path / "open"
    (place / "folder" / "deep").mkdir(parents=True)
    (place / "theirs").symlink_to(kept)
    (place / "ours").touch()
    os.chown(place / "folder", 61127, 61127)
    os.chown(place / "theirs", 61127, 61127, follow_symlinks=False)
    sweep(61127)
    assert [path.name for path in place.iterdir()] == ["ours"]
    assert kept.stat().st_mode & 0o777 == 0o500
