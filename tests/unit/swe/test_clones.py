"""Files of commits in local clones, and what programs changed in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmrl.errors import DataError
from llmrl.swe.changed import Watched
from llmrl.swe.clones import CommitFiles, files_of, lay_out
from llmrl.swe.instance import Instance
from llmrl.swe.tree import ChangeError
from llmrl.types import Problem
from tests import swe_calculator


@pytest.mark.parametrize("name", ["owner__calc", "calc.git", "owner__calc.git"])
def test_the_files_of_a_commit(tmp_path: Path, name: str) -> None:
    row = swe_calculator.made(tmp_path, name)
    instance = Instance.of(Problem(id="p", messages=(), info=row))
    files = files_of(instance, str(tmp_path))
    assert isinstance(files, CommitFiles)
    assert dict(files) == swe_calculator.FILES  # links are left out
    assert "link" not in files
    assert files.get("none") is None
    folder = tmp_path / "out"
    folder.mkdir()
    lay_out(files, str(folder))
    assert (folder / "pkg" / "calc.py").read_text() == swe_calculator.BUGGY
    assert os.readlink(folder / "link") == "pkg"
    assert not (folder / ".git").exists()


def test_a_clone_by_its_path_and_a_working_clone(tmp_path: Path) -> None:
    row = swe_calculator.made(tmp_path)
    for place in (tmp_path / "work", tmp_path / "owner__calc"):
        instance = Instance.of(Problem(id="p", messages=(), info={**row, "repo": str(place)}))
        assert "pkg/calc.py" in files_of(instance, "")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    row = swe_calculator.made(tmp_path)
    with pytest.raises(DataError, match=r"no clone of 'owner/calc'.*git clone --bare https://github.com/owner/calc"):
        files_of(Instance.of(Problem(id="p", messages=(), info=row)), str(tmp_path / "work"))
    gone = Instance.of(Problem(id="p", messages=(), info={**row, "base_commit": "0" * 40}))
    with pytest.raises(DataError, match="expected a clone that has it"):
        dict(files_of(gone, str(tmp_path)))


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({}, "neither `base_commit`"),
        ({"files": {"a": 1}}, "column 'files'"),
        ({"files": {"a": ""}, "FAIL_TO_PASS": "[1"}, "column 'FAIL_TO_PASS'"),
        ({"files": {"a": ""}, "test_runner": "nose"}, "test_runner 'nose'"),
        ({"files": {"a": ""}, "patch": 1}, "column 'patch'"),
    ],
)
def test_broken_columns_are_named(info: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        Instance.of(Problem(id="p", messages=(), info=info))


def test_changes_are_found_without_git(tmp_path: Path) -> None:
    files = {"a.py": "1\n", "b.py": "2\n", "c/d.py": "3\n"}
    lay_out(files, str(tmp_path))
    watched = Watched(tmp_path, files)
    watched.look()
    assert watched.changes() == {}
    times = os.stat(tmp_path / "a.py")
    (tmp_path / "a.py").write_text("9\n")
    os.utime(tmp_path / "a.py", ns=(times.st_atime_ns, times.st_mtime_ns))  # hides nothing
    (tmp_path / "b.py").unlink()
    os.symlink("/etc/passwd", tmp_path / "b.py")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "e.py").write_text("4\n")
    for name in ("__pycache__", ".git", ".pytest_cache", "x.egg-info"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config").write_text("[core]\nfsmonitor = touch /tmp/evil\n")
    os.rename(tmp_path / "c" / "d.py", tmp_path / "c" / "f.py")
    assert watched.changes() == {"a.py": "9\n", "b.py": None, "new/e.py": "4\n", "c/d.py": None, "c/f.py": "3\n"}


def test_what_is_too_much_is_refused(tmp_path: Path) -> None:
    lay_out({"a.py": "1\n"}, str(tmp_path))
    watched = Watched(tmp_path, {"a.py": "1\n"})
    watched.look()
    large = b"x" * ((1 << 20) + 1)
    (tmp_path / "scratch").write_bytes(large)
    assert watched.changes() == {}, "a new file that no patch would hold is left out"
    (tmp_path / "a.py").write_bytes(large)
    with pytest.raises(ChangeError, match=r"a\.py: 1048577 bytes; expected at most 1048576"):
        watched.changes()
    (tmp_path / "a.py").unlink()
    for number in range(201):
        (tmp_path / str(number)).write_text("")
    with pytest.raises(ChangeError, match="at most 200"):
        watched.changes()
