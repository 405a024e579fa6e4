"""Read a git repository: its changes, and texts of files at any commit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from llmrl.errors import DataError
from llmrl.swe.tree import Changes

LARGEST = 1 << 20  # bytes of a file that is read
_QUIET = ("-c", "core.quotepath=off", "-c", "core.fsmonitor=false", "-c", "safe.directory=*", "--no-optional-locks")
_FIELDS = "%H%x00%P%x00%an%x00%ae%x00%cI%x00%B"
_PLAIN = ("100644", "100755")  # modes of files that are no links and no submodules


@dataclass(frozen=True, slots=True)
class MergedChange:
    """A commit of the main line, and the one before it there."""

    commit: str
    base: str
    is_merge: bool
    author: str
    email: str
    merged_at: str
    message: str


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file that a change makes, changes or deletes: the objects before and behind, None where there is no file."""

    path: str
    old: str | None
    new: str | None
    is_plain: bool  # no link, no submodule


class Repository:
    """A local repository, bare or not. Use as a context manager: one process of git answers for all texts.

    Raises:
        DataError: the folder is no repository, or git is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._git("rev-parse", "--git-dir")
        self.text = lru_cache(maxsize=4096)(self._text)

    def __enter__(self) -> Self:
        self._reader = subprocess.Popen(
            ["git", *_QUIET, "-C", str(self.folder), "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.kill()
        self._reader.communicate()

    def changes(self, branch: str = "HEAD") -> Iterator[MergedChange]:
        """The commits of the main line, the oldest first; what was merged counts as one change."""
        log = self._git("log", "--first-parent", "--reverse", "-z", f"--format={_FIELDS}", branch, "--")
        fields = log.split("\0")
        for at in range(0, len(fields) - 5, 6):
            commit, parents, author, email, date, message = fields[at : at + 6]
            base, *merged = parents.split() or [""]
            if base:
                yield MergedChange(commit, base, bool(merged), author, email, date, message.strip())

    def changed_files(self, base: str, commit: str) -> list[ChangedFile]:
        """The files in which two commits differ."""
        fields = self._git("diff-tree", "-r", "-z", "--no-renames", "--raw", base, commit).split("\0")
        files = []
        for head, path in zip(fields[::2], fields[1::2], strict=False):
            old_mode, new_mode, old, new, _ = head.lstrip(":").split()
            plain = all(mode in _PLAIN for mode in (old_mode, new_mode) if mode != "000000")
            before, behind = (sha if set(sha) != {"0"} else None for sha in (old, new))
            files.append(ChangedFile(path, before, behind, plain))
        return files

    def blobs(self, commit: str) -> Mapping[str, str]:
        """Objects of the plain files of a commit, by path."""
        entries = self._git("ls-tree", "-r", "-z", commit).split("\0")
        heads = (entry.partition("\t") for entry in entries if entry.startswith(_PLAIN))
        return {path: head.split()[2] for head, _, path in heads}

    def has_commit(self, commit: str) -> bool:
        """Tell if a commit is there."""
        return self._read(f"{commit}^{{commit}}") is not None

    def origin(self) -> str:
        """`owner/name` of the remote `origin`; of one on this machine, or without one, the name of the folder alone."""
        try:
            address = self._git("remote", "get-url", "origin").strip()
        except DataError:
            address = ""
        parts = [part for part in address.removesuffix("/").removesuffix(".git").replace(":", "/").split("/") if part]
        is_here = address.startswith(("/", ".", "~", "file:"))
        return "/".join(parts[-1 if is_here else -2 :]) or self.folder.resolve().name.removesuffix(".git")

    def _text(self, sha: str) -> str | None:
        """A file as text; None for bytes that are none, and for files of more than a megabyte."""
        content = self._read(sha)
        if content is None or len(content) > LARGEST or b"\0" in content:
            return None
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return None

    def _read(self, name: str) -> bytes | None:
        if len(name.split()) != 1:  # git would read several lines as several requests
            return None
        reader = self._reader
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write(name.encode() + b"\n")
        reader.stdin.flush()
        head = reader.stdout.readline().split()
        if len(head) != 3:  # `NAME missing`
            return None
        return reader.stdout.read(int(head[2]) + 1)[:-1]

    def _git(self, *arguments: str) -> str:
        command = ["git", *_QUIET, "-C", str(self.folder), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, env=_environment(), timeout=600, check=False)
        except FileNotFoundError:
            raise DataError("git is not installed; expected the command git in PATH") from None
        if done.returncode:
            reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise DataError(f"{self.folder}: git {arguments[0]}: {reason}; expected a local clone of a repository")
        return done.stdout.decode("utf-8", "surrogateescape")


def texts(repository: Repository, files: list[ChangedFile]) -> tuple[dict[str, str], Changes] | None:
    """Texts of changed files, before and behind; None where one is no text."""
    old: dict[str, str] = {}
    new: Changes = {}
    for file in files:
        before, behind = (None if sha is None else repository.text(sha) for sha in (file.old, file.new))
        if not file.is_plain or (file.old is not None and before is None) or (file.new is not None and behind is None):
            return None
        if before is not None:
            old[file.path] = before
        new[file.path] = behind
    return old, new


def _environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**own, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
