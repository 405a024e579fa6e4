"""Workspaces in real containers, of an image with sh, python3 and pytest that `LLMRL_CONTAINER_IMAGE` names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from llmrl.errors import SandboxError
from llmrl.rewards.swe_tests import SweTests
from llmrl.sandbox import container
from llmrl.sandbox.container import ContainerOptions, ContainerWorkspace
from llmrl.sandbox.workspace import RESULTS
from llmrl.swe.instance import Instance
from llmrl.swe.testing import TestBed, run_tests
from llmrl.swe.tree import ChangeError
from llmrl.types import Problem

IMAGE = os.environ.get("LLMRL_CONTAINER_IMAGE", "")
OPTIONS = ContainerOptions(image=IMAGE, python="python3")


@pytest.fixture(scope="module")
def place() -> Iterator[ContainerWorkspace]:
    if not IMAGE:
        pytest.skip("LLMRL_CONTAINER_IMAGE names no image with sh, python3 and pytest")
    made = ContainerWorkspace(OPTIONS)
    yield made
    made.close()
    made.close()


def test_the_three_verbs(place: ContainerWorkspace) -> None:
    place.write("pkg/a.py", b"VALUE = 41\n")
    assert place.read("pkg/a.py") == b"VALUE = 41\n"
    program = (
        "import os, sys; sys.path.insert(0, '.'); import pkg.a; os.write(int(sys.argv[1]), b'r'); print(pkg.a.VALUE)"
    )
    done = place.exec(["python", "-c", program, RESULTS])
    assert (done.outcome.kind, done.outcome.code, done.results, done.printed) == ("exited", 0, b"r", "41\n")
    assert place.exec(["sh", "-c", "cat; exit 3"], b"in").outcome.stdout == b"in"
    with pytest.raises(FileNotFoundError, match=r"none\.py"):
        place.read("none.py")
    with pytest.raises(ChangeError):
        place.read("../x")


def test_nothing_that_a_program_started_lives_on(place: ContainerWorkspace) -> None:
    assert place.exec(["sh", "-c", "sleep 1001 & setsid sleep 1002 & echo ok"]).printed == "ok\n"
    running = place.exec(["sh", "-c", "cat /proc/[0-9]*/cmdline"]).printed
    assert "1001" not in running
    assert "1002" not in running


def test_what_cannot_be_ended_takes_the_container_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean-up that ends nothing stands for one that fails: what lives on is named, and nothing is read behind it."""
    if not IMAGE:
        pytest.skip("LLMRL_CONTAINER_IMAGE names no image with sh, python3 and pytest")
    made = ContainerWorkspace(OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(container, "END_ALL", container.END_ALL.replace("kill -9 -1", "true"))
        with pytest.raises(
            SandboxError, match=rf"container {made.name} .* could not be ended: \d+\(sleep\); .* removed"
        ):
            made.exec(["sh", "-c", "setsid sleep 1003 &"])
    listed = subprocess.run(
        [container.engine(), "ps", "--all", "--format", "{{.Names}}"], capture_output=True, text=True
    )
    assert made.name not in listed.stdout.split()
    made.close()


def test_time_and_output_are_bounded(place: ContainerWorkspace) -> None:
    assert place.exec(["sleep", "50"], timeout_s=0.5).outcome.kind == "timeout"
    flood = "import sys\nfor _ in range(800): sys.stdout.write('x' * 65536)"
    done = place.exec(["python", "-c", flood]).outcome
    assert (done.kind, len(done.stdout)) == ("output", container.OUTPUT)
    forks = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    assert place.exec(["python", "-c", forks], timeout_s=2.0).outcome.kind == "timeout"
    assert place.exec(["echo", "alive"]).printed == "alive\n"
    place.exec(["sh", "-c", "head -c 80000000 /dev/zero > big"])
    with pytest.raises(ChangeError, match="longer than 64 MB"):
        place.read("big")


def test_there_is_no_network(place: ContainerWorkspace) -> None:
    done = place.exec(["python", "-c", "import socket; socket.create_connection(('1.1.1.1', 53), 2)"])
    assert done.outcome.code == 1
    assert "OSError" in done.printed


@pytest.mark.parametrize(("sign", "status"), [("+", "PASSED"), ("-", "FAILED")])
def test_tests_of_a_repair_run_there(place: ContainerWorkspace, sign: str, status: str) -> None:
    place.write("calc.py", f"def add(a, b):\n    return a {sign} b\n".encode())
    place.write("test_calc.py", b"from calc import add\n\ndef test_add():\n    assert add(2, 3) == 5\n")
    tested = run_tests(place, Instance(id="i"), ["test_calc.py"], 60.0)
    assert (dict(tested.statuses), tested.fault) == ({"test_calc.py::test_add": status}, "")


def test_files_are_put_and_taken_together(place: ContainerWorkspace) -> None:
    place.put({"new/a.txt": "a", "old.txt": "b"})
    before = place.mark("new/a.txt")
    place.put({"new/a.txt": "c", "old.txt": None})
    assert place.read("new/a.txt") == b"c"
    assert place.mark("old.txt") is None
    assert before != place.mark("new/a.txt")
    with pytest.raises(ChangeError, match="none"):
        place.put({"none": None, "new/a.txt": "d"})
    assert place.read("new/a.txt") == b"c", "all or none"


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("return a + b", "correct"),
        ("return a * b", "wrong"),
        ("import os; os._exit(0)", "wrong"),
        ("print('PASSED test_calc.py::test_add'); raise SystemExit(0)", "wrong"),
        ("open('test_calc.py', 'w').write('def test_add(): pass'); return 5", "wrong"),
    ],
)
def test_the_reward_by_tests_runs_there(place: ContainerWorkspace, line: str, verdict: str) -> None:
    code = "def add(a, b):\n    {}\n"
    info = {
        "files": {"calc.py": code.format("return a - b")},
        "oracle_new": {"calc.py": code.format("return b + a")},
        "test_files": {"test_calc.py": "from calc import add\n\ndef test_add():\n    assert add(2, 3) == 5\n"},
        "FAIL_TO_PASS": ["test_calc.py::test_add"],
    }
    reward = SweTests(container=IMAGE, container_python="python3", timeout_s=60.0)
    answer = f"### calc.py\n<<<<<<< SEARCH\n    return a - b\n=======\n    {line}\n>>>>>>> REPLACE\n"
    score = reward(Problem(id="p", messages=(), info=info), answer)
    assert score.verdict == verdict, score.reason
    assert reward.ready() in container.ENGINES


def test_nothing_is_left() -> None:
    if not IMAGE:
        pytest.skip("LLMRL_CONTAINER_IMAGE names no image with sh, python3 and pytest")
    engine = container.engine()

    def there() -> tuple[str, str]:
        listed = ([engine, "ps", "--all", "--quiet"], [engine, "volume", "ls", "--quiet"])
        containers, volumes = (subprocess.run(words, capture_output=True, text=True).stdout for words in listed)
        return containers, volumes

    before = there()
    made = ContainerWorkspace(OPTIONS)
    made.exec(["sh", "-c", "sleep 1000 &"])
    made.close()
    assert there() == before


def test_an_image_that_is_not_there_is_named(place: ContainerWorkspace) -> None:
    with pytest.raises(SandboxError, match="does not start localhost/llmrl-none:1"):
        ContainerWorkspace(replace(OPTIONS, image="localhost/llmrl-none:1"))


def test_an_image_without_the_project_is_named(place: ContainerWorkspace) -> None:
    bed = TestBed(container=IMAGE, container_python="python3")
    with pytest.raises(SandboxError, match=r"no /testbed there; expected the project at abc"):
        bed.workspace(Instance(id="i", repo="a/b", base_commit="abc"))
