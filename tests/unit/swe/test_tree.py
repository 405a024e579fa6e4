"""Files of a folder: no path, link or text leads out of it, and broken changes leave everything else as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmrl.swe.diffs import parse_patch
from llmrl.swe.edits import read_edits, write_edits
from llmrl.swe.patches import apply_patch, edits_of_patch
from llmrl.swe.replace import replaced
from llmrl.swe.tree import ChangeError, Changes, Folder, inside, write
from tests.swe_files import HOSTILE, files_before, hostile_root, mutations, rows, snapshot


@pytest.mark.parametrize("path", ["a.py", "./a//b.py", ".gitignore", "a/.github/x", "a..b/c...py", "ä ö.py", "a:b"])
def test_paths_inside(path: str) -> None:
    assert inside(path) == path.removeprefix("./").replace("//", "/")


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_paths_are_neither_read_nor_written(path: str, tmp_path: Path) -> None:
    tree = hostile_root(tmp_path, {})
    before = snapshot(tmp_path)
    with pytest.raises(ChangeError) as caught:
        Folder(tree)[path]
    assert caught.value.kind == "outside"
    with pytest.raises(ChangeError):
        write(tree, {"src/a.py": "changed\n", path: "x"})
    assert snapshot(tmp_path) == before


def test_a_file_is_replaced_and_not_written_into(tmp_path: Path) -> None:
    tree = hostile_root(tmp_path, {})
    os.chmod(tree / "src/a.py", 0o750)
    write(tree, {"hard.txt": "mine\n", "src/a.py": "x = 2\n", "new/b.py": "\udcff"})
    assert (tmp_path / "outside.txt").read_text() == "outside\n"
    assert (tree / "src/a.py").stat().st_mode & 0o777 == 0o750
    assert (tree / "new/b.py").read_bytes() == b"\xff"
    write(tree, {"src/a.py": None})
    assert "src/a.py" not in Folder(tree)
    assert sorted(Folder(tree)) == ["hard.txt", "new/b.py"]
    with pytest.raises(ChangeError, match="no sign of UTF-8"):
        write(tree, {"x.py": "\ud800"})


def test_a_file_cannot_be_a_folder_of_the_same_change(tmp_path: Path) -> None:
    with pytest.raises(ChangeError, match="a part of it is a file"):
        write(tmp_path, {"a": "x", "a/b": "y"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_broken_outputs_change_nothing_outside(shared_data: Path, tmp_path: Path, count: int) -> None:
    """The whole root is compared: what is not named by a change that applied is as it was."""
    patches = [row["patch"] for row in rows(shared_data, "lite")[::15]]
    files: dict[str, str] = {}
    texts = []
    for patch in patches:
        before = files_before(parse_patch(patch))
        files |= before
        texts += [patch, f"<think>a</think><solution>\n{write_edits(edits_of_patch(before, patch))}</solution>"]
    tree = hostile_root(tmp_path, files)
    was = snapshot(tmp_path)
    applied = refused = 0
    for text in mutations(texts, count, seed=5):
        changes = _applied(tree, text)
        now = snapshot(tmp_path)
        paths = {f"tree/{path}" for path in changes or ()}
        folders = {parent.as_posix() for path in paths for parent in Path(path).parents}
        different = {path for path in {**was, **now} if was.get(path) != now.get(path)}
        assert different <= paths | folders, text
        applied, refused = applied + (changes is not None), refused + (changes is None)
        for path, text_now in (changes or {}).items():
            assert (Folder(tree)[path] if text_now is not None else None) == text_now
        if changes:
            write(tree, {path: files.get(path) for path in changes if path in files or path in Folder(tree)})
            was = snapshot(tmp_path)
    assert min(applied, refused) > count / 10


def _applied(tree: Path, text: str) -> Changes | None:
    """Apply a text, as edits or as a patch; None where it is refused."""
    try:
        files = Folder(tree)
        changes = replaced(files, read_edits(text)) if "<solution>" in text else apply_patch(files, text)
        write(tree, changes)
    except ChangeError:
        return None
    return changes
