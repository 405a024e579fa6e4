"""Read and write unified diffs as git writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from llmrl.swe.places import changed_groups, terminated
from llmrl.swe.tree import ChangeError

MOST_FILES = 5_000
"""Files of a patch; a model that loops writes more, and nobody else does."""
CHOPPED = 3  # fewer empty lines than these may be missing at the end of a patch, as for GNU `patch`
NO_NEWLINE = "\\ No newline at end of file\n"
_FIRST = ("diff --git ", "--- ", "@@ -")  # begin what is read; any other line between files is passed over
_BEGIN = re.compile("^(?:" + "|".join(map(re.escape, _FIRST)) + ")", re.MULTILINE)
_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(.*)")
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = dict(zip(b"ntrabfv", b"\n\t\r\a\b\f\v", strict=True))


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines of a file before and after; each has its newline, but for the last of a file that ends without one."""

    start: int  # number of its first line in the old file, from 1; 0 in a file that is empty
    new_start: int  # the same in the new file
    lines: tuple[str, ...]  # each begins with " ", "-" or "+"
    heading: str = ""  # behind the numbers

    @property
    def old(self) -> list[str]:
        """Lines that the file has before."""
        return [line[1:] for line in self.lines if line[0] != "+"]

    @property
    def new(self) -> list[str]:
        """Lines in their place."""
        return [line[1:] for line in self.lines if line[0] != "-"]

    def reversed(self) -> Hunk:
        """The hunk that takes this one's change back."""
        swap = {"+": "-", "-": "+", " ": " "}
        return Hunk(self.new_start, self.start, tuple(swap[line[0]] + line[1:] for line in self.lines), self.heading)

    @property
    def context(self) -> tuple[int, int]:
        """Unchanged lines at the beginning and at the end."""
        changes = [number for number, line in enumerate(self.lines) if line[0] != " "]
        return (changes[0], len(self.lines) - 1 - changes[-1]) if changes else (len(self.lines), 0)


@dataclass(frozen=True, slots=True)
class FilePatch:
    """A file's part of a patch; a new file has no old path, a deleted one no new path."""

    old_path: str | None
    new_path: str | None
    hunks: tuple[Hunk, ...] = ()
    is_copy: bool = False  # the old file stays
    is_binary: bool = False

    @property
    def path(self) -> str:
        """The path behind the patch, or before it where the file is deleted."""
        return self.new_path or self.old_path or ""

    @property
    def body(self) -> str:
        """The hunks as text, without names of files; a rename is a line of its own before them."""
        moved = self.old_path is not None and self.new_path is not None and self.old_path != self.new_path
        head = f"rename from {self.old_path} to {self.new_path}\n" if moved else ""
        return head + "".join(_hunk_text(hunk) for hunk in self.hunks)


def parse_patch(text: str) -> list[FilePatch]:
    """Read a patch; text before its files is passed over.

    Raises:
        ChangeError: `malformed`: a hunk has other lines than it counts, a file has no name, there is no file, or
            there are more than `MOST_FILES`.
    """
    files = list(islice(_Reader(text).files(), MOST_FILES + 1))
    if len(files) > MOST_FILES:
        raise ChangeError("malformed", f"more than {MOST_FILES} files in this patch; expected fewer")
    if not files:
        raise ChangeError("malformed", "no file in this patch; expected `diff --git a/PATH b/PATH`, or --- and +++")
    return files


class _Reader:
    """The lines of a patch, and the place where the reader stands."""

    def __init__(self, text: str) -> None:
        begin = _BEGIN.search(text)
        start = begin.start() if begin else len(text)
        self.lines = terminated(text[start:])
        self.above = text.count("\n", 0, start)  # lines before the first that is read
        self.at = 0

    def files(self) -> Iterator[FilePatch]:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.startswith("diff --git "):
                yield self._of_git()
            elif line.startswith("--- ") and self._line(1).startswith("+++ ") and self._line(2).startswith("@@ -"):
                yield self._named(FilePatch(None, None))
            elif _HUNK.match(line):
                raise self._fault("a hunk without a file; expected --- and +++ before it")
            else:
                behind = range(self.at + 1, len(self.lines))
                self.at = next((at for at in behind if self.lines[at].startswith(_FIRST)), len(self.lines))

    def _line(self, ahead: int = 0) -> str:
        return self.lines[self.at + ahead] if self.at + ahead < len(self.lines) else ""

    def _fault(self, reason: str) -> ChangeError:
        return ChangeError(
            "malformed", f"line {self.above + self.at + 1} of the patch: {reason}; found {self._line()[:80]!r}"
        )

    def _of_git(self) -> FilePatch:
        """A file that begins with `diff --git`."""
        path = _shared_name(self._line().rstrip("\n").removeprefix("diff --git "))
        patch = FilePatch(path, path)
        self.at += 1
        while line := self._line():
            if line.startswith(("--- ", "@@ -", "diff --git ")):
                break
            name = _unquoted(line.rstrip("\n").partition(" ")[2].partition(" ")[2])  # behind `rename from`
            if line.startswith("new file mode"):
                patch = replace(patch, old_path=None)
            elif line.startswith("deleted file mode"):
                patch = replace(patch, new_path=None)
            elif line.startswith(("rename from ", "copy from ")):
                patch = replace(patch, old_path=name, is_copy=line.startswith("copy"))
            elif line.startswith(("rename to ", "copy to ")):
                patch = replace(patch, new_path=name)
            elif line.startswith(("Binary files ", "GIT binary patch")):
                patch = replace(patch, is_binary=True)
            self.at += 1
        if self._line().startswith("--- ") and self._line(1).startswith("+++ "):
            return self._named(patch)
        if patch.path == "":
            raise self._fault("the file before has no name that is the same on both sides")
        if self._line().startswith("@@ -"):
            raise self._fault("a hunk without --- and +++ before it")
        return patch

    def _named(self, patch: FilePatch) -> FilePatch:
        """A file whose names and hunks begin here."""
        old, new = self._name(), self._name()
        hunks = []
        while _HUNK.match(self._line()):
            hunks.append(self._hunk())
        if self._line().startswith("@@"):
            raise self._fault("expected @@ -FIRST,COUNT +FIRST,COUNT @@")
        if old is None and new is None:
            raise self._fault("the file before has no name on either side")
        return replace(patch, old_path=old, new_path=new, hunks=tuple(hunks))

    def _name(self) -> str | None:
        """Read `--- a/PATH` or `+++ b/PATH`, without its first folder; None for /dev/null."""
        name = _unquoted(self._line()[4:].rstrip("\n").partition("\t")[0].rstrip("\r"))
        if name == "/dev/null":
            self.at += 1
            return None
        first, slash, path = name.partition("/")
        if not slash or not path:
            raise self._fault("expected a name with a folder before it, such as a/src/x.py")
        self.at += 1
        return path if first else name  # an absolute one stays absolute, to be refused

    def _hunk(self) -> Hunk:
        head = _HUNK.match(self._line())
        assert head is not None
        old, new = (int(count) if count is not None else 1 for count in (head[2], head[4]))
        self.at += 1
        lines: list[str] = []
        while old > 0 or new > 0:
            chopped = self.at >= len(self.lines) and old == new < CHOPPED
            line = " \n" if chopped or self._line() == "\n" else self._line()  # some editors cut blanks off
            if not line or line[0] not in " -+" or (old == 0 and line[0] != "+") or (new == 0 and line[0] != "-"):
                raise self._fault(f"{old} more old and {new} more new lines expected in this hunk")
            old -= line[0] != "+"
            new -= line[0] != "-"
            lines.append(line if line.endswith("\n") else line + "\n")
            self.at += 1
            if self._line().startswith("\\ "):
                lines[-1] = lines[-1].removesuffix("\n")
                self.at += 1
        return Hunk(int(head[1]), int(head[3]), tuple(lines), head[5].strip())


def _shared_name(names: str) -> str | None:
    """Read the path of `a/PATH b/PATH`; None where the two differ."""
    first, second = names[: len(names) // 2], names[len(names) // 2 + 1 :]
    first, second = _unquoted(first), _unquoted(second)
    return first[2:] if first.startswith("a/") and second == f"b/{first[2:]}" and first[2:] else None


def _unquoted(name: str) -> str:
    """Read a name that git may have put in quotes, with escapes of bytes."""
    if not (name.startswith('"') and name.endswith('"') and len(name) > 1):
        return name

    def byte(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 255]) if len(code) == 3 else bytes([_LETTERS.get(code[0], code[0])])

    raw = name[1:-1].encode("utf-8", "surrogatepass")
    return _ESCAPE.sub(byte, raw).decode("utf-8", "surrogateescape")


def _quoted(name: str) -> str:
    if name.isprintable() and name.isascii() and '"' not in name and "\\" not in name:
        return name
    signs = (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in name.encode("utf-8", "surrogateescape"))
    return '"' + "".join("\\" + sign if sign in '"\\' and len(sign) == 1 else sign for sign in signs) + '"'


def file_text(path: str, old: str | None, new: str | None) -> str:
    """Write a file's part of a patch, as `git diff` does without `index` lines; None where there is no file."""
    before, behind = _quoted(f"a/{path}"), _quoted(f"b/{path}")
    kind = "new file mode 100644\n" if old is None else "deleted file mode 100644\n" if new is None else ""
    hunks = "".join(_hunk_text(hunk) for hunk in _hunks(terminated(old or ""), terminated(new or "")))
    names = (before if old is not None else "/dev/null", behind if new is not None else "/dev/null")
    return f"diff --git {before} {behind}\n{kind}" + ("--- {}\n+++ {}\n".format(*names) if hunks else "") + hunks


def _hunks(old: list[str], new: list[str]) -> Iterator[Hunk]:
    """Differences of two versions, each line with its newline."""
    for group in changed_groups(old, new):
        lines: list[str] = []
        for kind, first, last, new_first, new_last in group:
            if kind == "equal":
                lines += [f" {line}" for line in old[first:last]]
            else:
                lines += [f"-{line}" for line in old[first:last]] + [f"+{line}" for line in new[new_first:new_last]]
        (_, first, _, new_first, _), (_, _, last, _, new_last) = group[0], group[-1]
        yield Hunk(first + (last > first), new_first + (new_last > new_first), tuple(lines))


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n{NO_NEWLINE}"


def _hunk_text(hunk: Hunk) -> str:
    counts = (f",{len(side)}" if len(side) != 1 else "" for side in (hunk.old, hunk.new))
    head = f"@@ -{hunk.start}{next(counts)} +{hunk.new_start}{next(counts)} @@ {hunk.heading}".rstrip()
    return "\n".join([head, "".join(map(_ended, hunk.lines))])
