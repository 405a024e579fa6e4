"""Changes that programs have made in a folder, found without running anything in it, not even Git."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from llmrl.swe.tree import ChangeError, Changes, Files, Folder, inside

LEFTOVERS = ("__pycache__", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache", ".git")
MOST_FILES = 200
MOST_BYTES = 1 << 20


@dataclass
class Watched:
    """A folder whose files were `files` when it was first looked at.

    A file whose inode, size and time of change are as they were is not read again; no program can set that time.
    """

    folder: Path
    files: Files
    marks: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def look(self) -> None:
        """Note the state of the folder."""
        self.marks = dict(_marks(self.folder))

    def changes(self) -> Changes:
        """New texts of the files that changed, and of new ones; None for files that are gone.

        New files that no patch would hold are left out: with more than `MOST_BYTES`, or with signs in their name that
        cannot be printed.

        Raises:
            ChangeError: more than `MOST_FILES` files, or than `MOST_BYTES` in one that was there; folders too deep.
        """
        try:
            now = dict(_marks(self.folder))
        except RecursionError:
            raise ChangeError("malformed", "folders are nested too deep; expected fewer than 900 levels") from None
        texts = Folder(self.folder)
        touched = [path for path, mark in now.items() if self._may_be_change(path, mark)]
        if len(touched) > MOST_FILES:
            raise ChangeError("malformed", f"{len(touched)} files changed; expected at most {MOST_FILES}")
        made: Changes = {path: None for path in self.marks if path not in now and path in self.files}
        for path in touched:
            if now[path][1] > MOST_BYTES:
                raise ChangeError("malformed", f"{path}: {now[path][1]} bytes; expected at most {MOST_BYTES}")
            text = texts[path]
            if text != self.files.get(path):
                made[path] = text
        return made

    def _may_be_change(self, path: str, mark: tuple[int, int, int]) -> bool:
        return self.marks.get(path) != mark and (path in self.files or (mark[1] <= MOST_BYTES and _has_name(path)))


def _has_name(path: str) -> bool:
    try:
        return bool(inside(path))
    except ChangeError:
        return False


def _marks(folder: Path) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Inode, size and time of change of each plain file."""
    for place, inner, names, here in os.fwalk(folder, follow_symlinks=False):
        inner[:] = sorted(name for name in inner if name not in LEFTOVERS and not name.endswith(".egg-info"))
        below = PurePosixPath(place).relative_to(PurePosixPath(folder))
        for name in sorted(names):
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and not name.endswith((".pyc", ".pyo")):
                yield str(below / name), (status.st_ino, status.st_size, status.st_ctime_ns)
