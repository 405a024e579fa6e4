"""Reach of a program at each level: no file but the system's, no door of the kernel, no group of ours."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from llmrl.checks.attacks.hostile_code import HARM
from llmrl.checks.attacks.hostile_files import FILES
from llmrl.checks.attacks.hostile_host import host
from llmrl.checks.attacks.hostile_kernel import KERNEL
from llmrl.sandbox import seccomp
from llmrl.sandbox.fence import fence_version
from llmrl.sandbox.interpreter import library, ours, package_folders, without
from llmrl.sandbox.isolation import LEVELS, Level, Limits
from llmrl.sandbox.run import Sandbox, available

WORKING: list[Level] = [level for level in LEVELS if not available()[level]]
FENCED = pytest.mark.skipif(not fence_version(), reason="this kernel has no Landlock")
DOORS = (
    "asks to be traced", "calls for the memory of its own", "takes files from others", "keys of the kernel", "mounts",
    "faults of its own", "a ring of calls", "namespaces by unshare", "namespaces by clone", "namespaces by clone3",
    "programs in the kernel", "memory in files without a name", "memory and queues that stay", "a segment of its own",
    "calls of another architecture", "a datagram from a pair", "a message from a pair", "a pair that turns to another",
    "many messages from a pair", "sockets of other kinds", "reads a terminal", "kills by a control group",
)  # fmt: skip


def run(level: Level, source: str) -> str:
    done = Sandbox("subprocess", level, Limits(wall_s=60.0, cpu_s=20.0)).run(["python", "-c", source])
    assert done.kind == "exited", done
    return (done.stdout + done.stderr).decode()


@FENCED
@pytest.mark.parametrize("level", WORKING)
def test_doors_are_closed(level: Level) -> None:
    with host({}) as bait:
        for name in DOORS:
            said = run(level, bait.fill((FILES | KERNEL)[name]))
            assert not [word for word in HARM if word in said], (name, said)
        assert not bait.harm()


@FENCED
@pytest.mark.parametrize("level", WORKING)
def test_only_the_system_is_readable(level: Level) -> None:
    packages = [path for top in package_folders(Path(sys.base_prefix)) for path in sorted(top.glob("*/__init__.py"))]
    places = [Path(__file__), Path("/etc/passwd"), Path("/proc/version"), Path("/proc/self/status"), *packages[:3]]
    read = "    try: print(open(path).read(1))\n    except OSError: pass"
    assert run(level, f"for path in {[str(path) for path in places]}:\n{read}") == ""
    used = "import json, ssl, subprocess, zoneinfo\nprint(subprocess.run(['echo', 'x']).returncode)"
    assert run(level, used) == "x\n0\n"


@pytest.mark.parametrize("level", WORKING)
def test_no_group_is_ours(level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can leave its groups")
    before = os.getgroups()
    os.setgroups([*before, 61200])
    try:
        assert run(level, "import os; print(os.getgroups())") == "[]\n"
    finally:
        os.setgroups(before)


@pytest.mark.parametrize("level", WORKING)
def test_the_program_is_the_main_module_alone(level: Level) -> None:
    source = "import sys\ndef f(x: int): pass\nprint(sorted(n for n in globals() if n[0] != '_'), f.__annotations__)"
    assert run(level, f"{source}\nprint(sys.argv)") == "['f', 'sys'] {'x': <class 'int'>}\n['-c']\n"


@pytest.mark.parametrize("shared", [True, False])
def test_the_filter_jumps_to_its_ends(shared: bool) -> None:
    program = seccomp.program(shared)
    lines = [struct.unpack("=HBBI", program[at : at + 8]) for at in range(0, len(program), 8)]
    for at, (code, hit, miss, _) in enumerate(lines):
        if code & 7 == 5:
            assert max(at + 1 + hit, at + 1 + miss) < len(lines)
    assert lines[-1][0] == seccomp.GIVE
    assert (seccomp.SHARED[os.uname().machine][0] in [line[3] for line in lines]) is shared


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("a/packages/x", "a/b", "c"):
        (tmp_path / name).mkdir(parents=True)
    hidden = [tmp_path / "a" / "packages"]
    assert without(tmp_path, hidden) == [tmp_path / "a" / "b", tmp_path / "c"]
    assert without(tmp_path / "c", hidden) == [tmp_path / "c"]
    assert not [path for path in library(ours()) if "packages" in str(path)]
