"""Texts of a repository's files by path, in memory or in a folder; no path leads out of the tree."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from llmrl.errors import LlmrlError

Files = Mapping[str, str]
"""Texts by path: relative, with slashes. Bytes that are no UTF-8 stand as lone surrogates."""
Changes = dict[str, str | None]
"""New texts of the files that changed; None where a file is deleted."""
Fault = Literal[
    "tags",
    "no_edit",
    "no_path",
    "unclosed",
    "same",
    "not_found",
    "ambiguous",
    "exists",
    "too_long",
    "outside",
    "malformed",
    "conflict",
]
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


class ChangeError(LlmrlError, ValueError):
    """A text that is no change of these files; `kind` names the rule that it broke."""

    def __init__(self, kind: Fault, reason: str) -> None:
        super().__init__(reason)
        self.kind: Fault = kind


def inside(path: str) -> str:
    """Check a path, and write it in its shortest form: `./a//b.py` is `a/b.py`.

    Raises:
        ChangeError: `outside`: it is absolute, leads upwards, into `.git`, or is no path that a file can have.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    upwards = ".." in path.replace("\\", "/").split("/")
    git = any(part.lower().rstrip(". ") in (".git", "git~1") for part in parts)
    absolute = path.startswith(("/", "\\", "~")) or path[1:3] in (":/", ":\\")
    if not parts or path.endswith("/") or upwards or git or absolute:
        raise ChangeError("outside", f"{path[:200]!r}: expected a path to a file in the tree, such as 'src/a.py'")
    try:
        sizes = [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:
        sizes = [256]
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in path) or max(sizes) > 255 or sum(sizes) > 3000:
        raise ChangeError("outside", f"{path[:200]!r}: expected a path of printed signs, of at most 255 bytes a name")
    return "/".join(parts)


class Folder(Mapping[str, str]):
    """Texts of the files in a folder, read when they are asked for. Links are never followed.

    Args:
        root: an existing folder; it may be a link itself.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve(strict=True)

    def __getitem__(self, path: str) -> str:
        """Read a file.

        Raises:
            KeyError: there is none.
            ChangeError: `outside`: the path leads out of the folder, through a link, or to no plain file.
        """
        place = inside(path)
        try:
            with _Place(self.root, place) as at:
                return _read(at)
        except FileNotFoundError:
            raise KeyError(path) from None

    def __iter__(self) -> Iterator[str]:
        """Paths of all plain files, in order; `.git` and links are left out."""
        for folder, inner, names in os.walk(self.root):
            inner[:] = sorted(name for name in inner if name.lower() != ".git")
            for name in sorted(names):
                place = Path(folder) / name
                if stat.S_ISREG(place.lstat().st_mode):
                    yield place.relative_to(self.root).as_posix()

    def __len__(self) -> int:
        return sum(1 for _ in self)


def write(root: Path, changes: Mapping[str, str | None]) -> None:
    """Write changed files into a folder, and delete those whose text is None.

    Each is checked before the first is written. A file is replaced, never written into, so that another name of it
    outside (a hard link) keeps its text; its mode is kept.

    Raises:
        ChangeError: `outside`: a path leads out of the folder, through a link, or to no plain file; `not_found`: a file
            to delete is not there; `malformed`: a text has signs that UTF-8 cannot hold; nothing was written.
    """
    files = Folder(root)
    contents = {inside(path): None if text is None else _bytes(path, text) for path, text in changes.items()}
    for place, content in contents.items():
        if place not in files and content is None:
            raise ChangeError("not_found", f"{place}: expected a file to delete, found none")
        above = [place[:at] for at, sign in enumerate(place) if sign == "/"]
        if content is not None and any(contents.get(folder) is not None for folder in above):
            raise ChangeError("outside", f"{place}: a part of it is a file of the same change; expected a folder")
    for place, content in sorted(contents.items(), key=lambda pair: pair[1] is not None):  # deletions first
        with _Place(files.root, place, make=content is not None) as at:
            if content is None:
                at.remove()
            else:
                at.replace(content)


def _bytes(path: str, text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ChangeError("malformed", f"{path}: {error.object[error.start]!r} is no sign of UTF-8") from None


class _Place:
    """An open folder and a name in it, reached name by name, so that no link is followed at any time."""

    def __init__(self, root: Path, path: str, make: bool = False) -> None:
        self.path, self.make = path, make
        *self.folders, self.name = path.split("/")
        self.folder = os.open(root, os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> _Place:
        try:
            for name in self.folders:
                self._enter(name)
        except OSError as error:
            os.close(self.folder)
            if isinstance(error, FileNotFoundError):
                raise
            raise self._refusal("a part of it is a link, or no folder") from error
        except BaseException:
            os.close(self.folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)

    def _enter(self, name: str) -> None:
        if self.make:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=self.folder)
        inner = os.open(name, os.O_DIRECTORY | _FLAGS, dir_fd=self.folder)
        os.close(self.folder)
        self.folder = inner

    def _refusal(self, reason: str) -> ChangeError:
        return ChangeError("outside", f"{self.path!r}: {reason}; expected a plain file in the tree")

    def mode(self) -> int | None:
        """Permissions of the file; None where there is none.

        Raises:
            ChangeError: it is no plain file.
        """
        try:
            state = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(state.st_mode):
            raise self._refusal("it is a link, a folder or a device")
        return stat.S_IMODE(state.st_mode)

    def remove(self) -> None:
        if self.mode() is not None:
            os.unlink(self.name, dir_fd=self.folder)

    def replace(self, content: bytes) -> None:
        mode = self.mode()
        name = f".{secrets.token_hex(8)}"
        written = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666, dir_fd=self.folder)
        try:
            with open(written, "wb") as file:
                file.write(content)
                if mode is not None:
                    os.fchmod(file.fileno(), mode & 0o777)
            os.rename(name, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except BaseException:
            os.unlink(name, dir_fd=self.folder)
            raise


def _read(at: _Place) -> str:
    if at.mode() is None:
        raise FileNotFoundError(at.path)
    with open(os.open(at.name, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=at.folder), "rb") as file:
        return file.read().decode("utf-8", "surrogateescape")
