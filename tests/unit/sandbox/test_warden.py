"""Programs end, and their folders go, also when the grader that runs them is killed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llmrl.sandbox import inmate, run
from llmrl.sandbox.cleanup import LOCKS, full_of_files, overfull, slot
from llmrl.sandbox.isolation import LEVELS, Level, Limits
from llmrl.sandbox.run import Sandbox, available
from llmrl.sandbox.warden import Warden

WORKING: list[Level] = [level for level in LEVELS if not available()[level]]
FORKS = """
import ctypes, os, time
kernel = ctypes.CDLL(None)
kernel.prctl(15, b'WORD')
for _ in range(3):
    if os.fork() == 0:
        kernel.prctl(1, 0)  # PR_SET_PDEATHSIG: none
        os.closerange(0, 64)
        time.sleep(300)
if LAST: os._exit(0)
print('up', flush=True)
time.sleep(300)
"""


CHAIN = """
import ctypes, os
ctypes.CDLL(None).prctl(15, b'WORD')
for _ in range(3):
    if os.fork() == 0:
        os.closerange(0, 64)
        while True:
            try:
                if os.fork(): os._exit(0)
            except OSError: pass
if LAST: os._exit(0)
"""


def until(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def named(word: str) -> int:
    """Number of processes of this name."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            count += path.read_text(errors="replace").strip() == word
        except OSError:
            continue
    return count


@pytest.mark.parametrize("level", WORKING)
@pytest.mark.parametrize("source", [FORKS, CHAIN], ids=["sleepers", "chains"])
def test_what_a_program_leaves_ends_with_it(level: Level, source: str) -> None:
    word = f"w{secrets.token_hex(6)}"
    limits = Limits(wall_s=60.0, processes=400)  # of ours, too, at level subprocess
    source = source.replace("WORD", word).replace("LAST", "True")
    done = Sandbox("subprocess", level, limits).run(["python", "-c", source])
    assert (done.kind, done.code) == ("exited", 0)
    assert until(lambda: named(word) == 0, 5.0)


@pytest.mark.parametrize("level", WORKING)
def test_programs_end_with_a_grader_that_is_killed(level: Level) -> None:
    word = f"w{secrets.token_hex(6)}"
    program = FORKS.replace("WORD", word).replace("LAST", "False")
    source = (
        "from llmrl.sandbox.isolation import Limits\nfrom llmrl.sandbox.run import Sandbox\n"
        f"Sandbox('subprocess', {level!r}, Limits(wall_s=200.0, processes=400)).run(['python', '-c', {program!r}])"
    )
    grader = subprocess.Popen([sys.executable, "-c", source], start_new_session=True)
    try:
        assert until(lambda: named(word) == 4)
    finally:
        os.killpg(grader.pid, signal.SIGKILL)
        grader.wait()
    assert until(lambda: named(word) == 0, 10.0)


def test_a_warden_ends_what_it_guards_and_removes_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "box"
    folder.mkdir()
    (folder / "file").touch()
    sleeper = subprocess.Popen(["sleep", "300"], start_new_session=True)
    warden = Warden()
    warden.guard(sleeper.pid, None, "no mark", str(folder))
    warden.leave()
    assert sleeper.wait(timeout=60) == -signal.SIGKILL
    assert until(lambda: not folder.exists())


def test_a_warden_removes_what_is_released_and_comes_back_when_killed(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("deep", "next")]
    warden = Warden()
    for number, folder in enumerate(folders):
        (folder / "a" / "b").mkdir(parents=True)
        warden.guard(number, None, "no mark", str(folder))
        assert warden.process is not None
        if number == 0:
            warden.release(number)
            assert until(lambda folder=folder: not folder.exists())  # type: ignore[misc]
            os.killpg(warden.process.pid, signal.SIGKILL)
            warden.process.wait()
    warden.release(1)
    assert until(lambda: not folders[1].exists())
    warden.leave()


@pytest.mark.parametrize("level", [level for level in WORKING if level != "unshare"])
@pytest.mark.parametrize("source", ["open(str(i), 'w').close()", "os.mkdir('d'); os.chdir('d')"])
def test_the_number_of_files_is_bounded(level: Level, source: str) -> None:
    source = f"import os\nfor i in range(10 ** 9): {source}"
    assert Sandbox("subprocess", level, Limits(wall_s=60.0, files=200)).run(["python", "-c", source]).kind == "files"


def test_a_folder_in_memory_holds_so_many_files() -> None:
    if "unshare" not in WORKING:
        pytest.skip("no namespaces here")
    source = "for i in range(10 ** 9): open(str(i), 'w').close()"
    done = Sandbox("unshare", "unshare", Limits(wall_s=60.0, files=200)).run(["python", "-c", source])
    assert b"No space left on device: '199'" in done.stderr


def test_overfull_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("/usr")
    assert not overfull(str(tmp_path), 3, 100)
    assert overfull(str(tmp_path), 2, 100)
    (tmp_path / "a" / "big").write_bytes(b"x" * 200_000)
    assert overfull(str(tmp_path), 9, 100)
    assert not overfull(str(tmp_path), 9, 1000)
    assert not overfull(str(tmp_path / "missing"), 9, 1000)


@pytest.mark.skipif("bubblewrap" not in WORKING, reason="bubblewrap does not work here")
def test_files_of_the_host_are_not_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace that is still being built shows the host's folders, full of other people's files."""
    assert not full_of_files("/proc/self/root", [str(tmp_path)], -1)
    looks = []

    def full(root: str, rooms: Sequence[str], files: int) -> bool:
        looks.append(root)
        return full_of_files(root, rooms, files)

    monkeypatch.setattr(run, "TICK_S", 0.0)  # looks from the first moment on
    monkeypatch.setattr(inmate, "full_of_files", full)
    program = ["python", "-c", "import time; time.sleep(0.3); print('well')"]
    outcome = Sandbox(level="bubblewrap", limits=Limits(wall_s=30.0, files=4)).run(program)
    assert (outcome.kind, outcome.stdout) == ("exited", b"well\n")
    assert looks


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_whose_holder_was_killed_is_cleared_before_the_next() -> None:
    with slot() as uid:
        sleeper = subprocess.Popen(["sleep", "300"], user=uid, group=uid)
    (LOCKS / str(uid)).write_text("1")  # as it is left behind
    with slot() as again:
        assert again == uid
        assert sleeper.wait(timeout=10) == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_warden_leaves_the_next_holder_of_a_user_alone(tmp_path: Path) -> None:
    with slot() as uid:  # as taken right after the guarded grader was killed
        sleeper = subprocess.Popen(["sleep", "300"], user=uid, group=uid)
        try:
            ended = subprocess.Popen(["true"], start_new_session=True)
            ended.wait()
            warden = Warden()
            warden.guard(ended.pid, uid, "no mark", str(tmp_path / "missing"))
            assert warden.process is not None
            assert warden.process.stdin is not None
            warden.process.stdin.close()
            assert warden.process.wait(timeout=60) == 0
            assert sleeper.poll() is None
        finally:
            sleeper.kill()
            sleeper.wait()


def test_a_new_warden_knows_what_the_killed_one_guarded(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    warden = Warden()
    for number, folder in enumerate(folders):
        (folder / "a").mkdir(parents=True)
        warden.guard(number, None, "no mark", str(folder))
    assert warden.process is not None
    os.killpg(warden.process.pid, signal.SIGKILL)
    warden.process.wait()
    for number in (0, 1):
        warden.release(number)
    assert until(lambda: not any(folder.exists() for folder in folders))
    warden.leave()
