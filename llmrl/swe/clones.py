"""Files that a task begins with: those of a commit in a local clone, or those that the task holds itself."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from llmrl.errors import DataError
from llmrl.swe import tree
from llmrl.swe.instance import Instance
from llmrl.swe.tree import Files

SAFE = ("-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
QUIET = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


class CommitFiles(Mapping[str, str]):
    """Texts of the files of a commit, read when they are asked for. The clone, bare or not, is only read.

    Raises:
        DataError: when it is read: the clone has no such commit, or Git fails.
    """

    def __init__(self, clone: Path, commit: str) -> None:
        self.clone, self.commit = clone, commit

    def __getitem__(self, path: str) -> str:
        return self._git("cat-file", "blob", self._blobs[path]).decode("utf-8", "surrogateescape")

    def __contains__(self, path: object) -> bool:
        return path in self._blobs

    def __iter__(self) -> Iterator[str]:
        return iter(self._blobs)

    def __len__(self) -> int:
        return len(self._blobs)

    def check_out(self, folder: str) -> None:
        """Write all files into a folder, links included; nothing of Git is left there."""
        with tempfile.TemporaryDirectory(prefix="llmrl-index-") as place:
            index = {"GIT_INDEX_FILE": f"{place}/index"}
            self._git("read-tree", self.commit, extra=index)
            self._git(f"--work-tree={folder}", "checkout-index", "--all", "--force", extra=index, cwd=folder)

    @cached_property
    def _blobs(self) -> Mapping[str, str]:
        lines = self._git("ls-tree", "-r", "-z", self.commit).decode(errors="surrogateescape").split("\0")
        rows = (line.partition("\t") for line in lines if line)
        return {path: head.split()[2] for head, _, path in rows if head.startswith("100")}

    def _git(self, *words: str, extra: Mapping[str, str] | None = None, cwd: str | None = None) -> bytes:
        command = ["git", *SAFE, f"--git-dir={self.clone}", *words]
        variables = {**os.environ, **QUIET, **(extra or {})}
        done = subprocess.run(command, capture_output=True, check=False, env=variables, cwd=cwd, timeout=600)
        if done.returncode:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
            raise DataError(
                f"{self.clone}: commit {self.commit}: {last}; expected a clone that has it: git fetch there"
            )
        return done.stdout


def files_of(instance: Instance, repos: str) -> Files:
    """The files of an instance, before any repair.

    Args:
        repos: a folder of clones: `owner/name`, `owner__name` or `name`, each also with `.git` behind it.
    Raises:
        DataError: there is no clone.
    """
    if not instance.base_commit:
        return instance.files
    name = instance.repo
    shapes = [name, name.replace("/", "__"), name.rpartition("/")[2]]
    places = [
        Path(repos, shape + end) for shape in shapes for end in ("", ".git")
    ]  # an absolute name is a place itself
    for place in dict.fromkeys(places):
        for clone in (place / ".git", place):
            if (clone / "HEAD").exists():
                return CommitFiles(clone.resolve(), instance.base_commit)
    raise DataError(
        f"instance {instance.id}: no clone of {name!r} in {repos or 'the current folder'!r}; make one there: git clone "
        f"--bare https://github.com/{name} {shapes[1]}.git"
    )


def lay_out(files: Files, folder: str) -> None:
    """Write all files into an empty folder."""
    if isinstance(files, CommitFiles):
        files.check_out(folder)
    else:
        tree.write(Path(folder), files)
