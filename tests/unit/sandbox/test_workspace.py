"""Workspaces: a folder of ours that programs may change, an environment that they may only read, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llmrl.errors import SandboxError
from llmrl.sandbox.container import END_ALL, ContainerOptions, ContainerWorkspace
from llmrl.sandbox.inmate import Program, started
from llmrl.sandbox.isolation import Level, Limits, Mount
from llmrl.sandbox.run import Sandbox, available
from llmrl.sandbox.workspace import RESULTS, LocalOptions, LocalWorkspace
from llmrl.swe.tree import ChangeError

ROOTED: list[Level] = ["unshare", "bubblewrap"]
WORKING = [level for level in ROOTED if not available()[level]]
ROOMY = Limits(wall_s=60.0, cpu_s=30.0, memory_mb=2048, file_mb=64, files=4096, processes=64, open_files=256)


@pytest.fixture(params=WORKING)
def place(request: pytest.FixtureRequest) -> Iterator[LocalWorkspace]:
    made = LocalWorkspace(LocalOptions(limits=ROOMY, min_level="unshare", level=request.param))
    yield made
    made.close()
    assert not os.path.exists(made.folder)


def test_a_rooted_level_works_here() -> None:
    assert WORKING


def test_three_verbs(place: LocalWorkspace) -> None:
    place.write("pkg/a.py", b"VALUE = 41\n")
    done = place.exec(["python", "-c", "from pkg.a import VALUE; open('out', 'w').write(str(VALUE + 1))"])
    assert (done.outcome.kind, done.outcome.code, done.printed) == ("exited", 0, "")
    assert place.read("out") == b"42"
    place.write("out", b"43")  # a file of another user's
    assert place.exec(["cat", "out"]).printed == "43"
    again = place.exec(["bash", "-c", "pwd; echo 44 > out; rm -r pkg; ls"])  # another user than before
    assert again.printed == "/testbed\nout\n"
    with pytest.raises(FileNotFoundError):
        place.read("pkg/a.py")


def test_results_have_a_descriptor_of_their_own(place: LocalWorkspace) -> None:
    write = "import os, sys; os.write(int(sys.argv[1]), b'result'); print('printed')"
    done = place.exec(["python", "-c", write, RESULTS], stdin=b"told")
    assert (done.results, done.printed) == (b"result", "printed\n")


def test_pytest_and_unittest_are_there(place: LocalWorkspace) -> None:
    place.write(
        "test_a.py", b"import unittest\nclass T(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, 1)\n"
    )
    assert "1 passed" in place.exec(["python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]).printed
    assert "OK" in place.exec(["python", "-m", "unittest", "-v"]).printed


OUTSIDE = """
import os, socket, sys
tried = {}
def attempt(name, act):
    try:
        act()
        tried[name] = 'done'
    except OSError as error:
        tried[name] = type(error).__name__
attempt('write to /', lambda: open('/here', 'w'))
attempt('write to the interpreter', lambda: open(os.path.join(os.path.dirname(os.__file__), 'evil.py'), 'w'))
attempt('write to packages', lambda: open('/packages/pytest/evil.py', 'w'))
attempt('read a secret', lambda: open(sys.argv[1]).read())
attempt('connect', lambda: socket.create_connection(('127.0.0.1', 22), 1))
attempt('list the parent', lambda: os.listdir(sys.argv[2]))
print(sorted(tried.items()))
"""


def test_nothing_else_is_reached(place: LocalWorkspace, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    printed = place.exec(["python", "-c", OUTSIDE, str(secret), os.path.dirname(place.folder)]).printed
    assert printed, "nothing was printed"
    assert "done" not in printed


def test_links_that_a_program_left_lead_nowhere(place: LocalWorkspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("ours")
    place.exec(["bash", "-c", f"ln -s {tmp_path}/file link; ln -s {tmp_path} folder; mkfifo pipe"])
    for path in ("link", "folder/file", "pipe", "../x", "/etc/passwd", ".git/config"):
        with pytest.raises(ChangeError):
            place.read(path)
        with pytest.raises(ChangeError):
            place.write(path, b"theirs")
    assert (tmp_path / "file").read_text() == "ours"
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_a_module_in_the_folder_is_not_run_outside_the_fence(place: LocalWorkspace) -> None:
    """The fence is put up by an interpreter that starts elsewhere: a `ctypes.py` of the project is not its own."""
    for name in ("ctypes", "os", "sys", "sitecustomize"):
        place.write(f"{name}.py", b"raise SystemExit('ran')")
    assert place.exec(["python", "-I", "-c", "print('in')"]).printed == "in\n"


def test_too_many_files_end_a_program(place: LocalWorkspace) -> None:
    mount = Mount(folder=place.folder, inside="/testbed", writable=True, files=50, size_mb=64)
    os.chmod(place.folder, 0o777)
    box = replace(place.options.sandbox, mounts=(mount,))
    loop = "import os, time\nos.chdir('/testbed')\nfor n in range(200): open(str(n), 'w')\ntime.sleep(30)"
    assert box.run(["python", "-c", loop]).kind == "files"


def test_time_ends_a_program(place: LocalWorkspace) -> None:
    assert place.exec(["sleep", "30"], timeout_s=0.5).outcome.kind == "timeout"


def test_levels_without_a_root_refuse_folders(tmp_path: Path) -> None:
    mount = Mount(folder=str(tmp_path), inside="/testbed")
    with (
        pytest.raises(SandboxError, match="no root of its own"),
        started("uid" if os.geteuid() == 0 else "subprocess", Limits(), Program(["true"]), (), (mount,)),
    ):
        pass


def test_an_environment_is_bound_read_only(tmp_path: Path) -> None:
    home = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    packages = next((home / "lib").glob("python3*/site-packages"))
    (packages / "of_its_own.py").write_text("NAME = 'mine'\n")
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o111)
    made = LocalWorkspace(LocalOptions(environment=str(home), limits=ROOMY))
    try:
        ask = "import of_its_own as o, sys; print(o.NAME, sys.prefix); open(o.__file__, 'a')"
        done = made.exec(["python", "-c", ask])
        assert done.printed.startswith(f"mine {home}\n")
        assert "Error" in done.printed.splitlines()[-1]
    finally:
        made.close()
    assert (packages / "of_its_own.py").read_text() == "NAME = 'mine'\n"


def test_no_container_engine_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the daemon' >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    with pytest.raises(SandboxError, match="docker: Cannot connect to the daemon; podman is not installed"):
        ContainerWorkspace(ContainerOptions(image="image:1"))


def test_files_are_open_to_all_and_no_more(place: LocalWorkspace) -> None:
    place.write("run.sh", b"echo hi\n")
    os.chmod(f"{place.folder}/run.sh", 0o755)
    place.exec(["true"])
    assert stat.S_IMODE(os.stat(f"{place.folder}/run.sh").st_mode) == 0o777
    assert stat.S_IMODE(os.stat(os.path.dirname(place.folder)).st_mode) == 0o700
    assert Sandbox().mounts == ()


def test_a_killed_grader_leaves_no_folder() -> None:
    code = "from llmrl.sandbox.workspace import LocalWorkspace as W\n"
    code += "place = W(); print(place.folder, flush=True); place.exec(['bash', '-c', 'touch a; sleep 60'])"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as grader:
        assert grader.stdout is not None
        file = Path(grader.stdout.readline().strip(), "a")
        _wait_until(file.exists)
        os.killpg(grader.pid, signal.SIGKILL)
    _wait_until(lambda: not file.parent.parent.exists())


def _wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 30.0
    while not done():
        assert time.monotonic() < end, "not within 30 s"
        time.sleep(0.05)


IN_CONTAINER = """
setsid sleep 1001 & sleep 1002 & (setsid sh -c 'sleep 1003 & sleep 1004' &)
sleep 0.3
setsid -w sh -c "$1"; echo "$?"
"""


@pytest.mark.parametrize(("script", "expected"), [(END_ALL, 0), (END_ALL.replace("kill -9 -1", "true"), 1)])
def test_a_containers_clean_up_says_what_lives_on(script: str, expected: int) -> None:
    """The first process of a namespace is a leader of its session, as a container's is; its own children may live."""
    spaces = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "setsid"]
    done = subprocess.run([*spaces, "sh", "-c", IN_CONTAINER, "sh", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{expected}\n", done.stderr
    assert len(re.findall(r"\d+\(sleep\)", done.stderr)) == 3 * expected
