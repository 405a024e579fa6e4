"""A repair as a row of data: an issue, files, and what became of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from llmrl.errors import DataError
from llmrl.swe.diffs import FilePatch, parse_patch
from llmrl.swe.patches import patch_between
from llmrl.swe.tree import ChangeError, Changes, Files

CODE = (".py",)  # endings of files whose change is a repair
_TEST_PARTS = frozenset(["test", "tests", "testing", "e2e"])
_TEST_NAME = re.compile(r"(?:test_.*|.*_tests?|conftest)\.\w+")


@dataclass(frozen=True, kw_only=True)
class SweRow:
    """A merged change that repairs an issue.

    The change of code and that of its tests are kept apart: `patch`, `oracle_new` and `edited_paths` have no tests.
    """

    id: str
    repo: str  # owner/name
    base_commit: str
    issue_title: str
    issue_body: str
    files: Mapping[str, str]  # before the change: the edited ones, and some that are relevant and stay as they are
    oracle_new: Mapping[str, str]  # edited ones behind the change; "" for one that is deleted
    patch: str
    edited_paths: Sequence[str]
    test_patch: str = ""
    merged_at: str = ""  # ISO 8601
    license: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)  # of the source: FAIL_TO_PASS, version ...

    def as_line(self) -> dict[str, Any]:
        """Convert to JSON; the columns of `extra` stand beside the others."""
        line = asdict(self)
        return {**line.pop("extra"), **line}


def read_row(values: Mapping[str, Any], where: str) -> SweRow:
    """Read a line that `as_line` wrote.

    Raises:
        DataError: a column is missing or has another type, or an edited file that is there before is not shown.
    """
    for column in ("id", "repo", "base_commit", "issue_title", "issue_body", "patch"):
        if not isinstance(values.get(column), str):
            raise DataError(f"{where}: column {column!r}: expected text, found {type(values.get(column)).__name__}")
    for column in ("files", "oracle_new"):
        texts = values.get(column)
        if not isinstance(texts, dict) or not all(isinstance(part, str) for pair in texts.items() for part in pair):
            raise DataError(f"{where}: column {column!r}: expected an object from paths to text")
    known = {name: value for name, value in values.items() if name in SweRow.__dataclass_fields__ and name != "extra"}
    for column in ("test_patch", "merged_at", "license"):
        if not isinstance(known.get(column, ""), str):
            raise DataError(f"{where}: column {column!r}: expected text, found {type(known[column]).__name__}")
    edited = known.get("edited_paths", [])
    if not isinstance(edited, list) or not all(isinstance(path, str) for path in edited):
        raise DataError(f"{where}: column 'edited_paths': expected a list of paths")
    row = SweRow(**{"edited_paths": list(values["oracle_new"]), **known})
    made = {patch.path for patch in read_patch(row.patch, where) if patch.old_path is None} if row.patch else set()
    if hidden := [path for path in row.oracle_new if path not in row.files and path not in made]:
        raise DataError(f"{where}: {hidden[0]} is edited and not among the files; expected every edited file there")
    return row


def read_patch(patch: str, where: str) -> list[FilePatch]:
    """Read the patch of a row of data.

    Raises:
        DataError: it is none; with the place of the row.
    """
    try:
        return parse_patch(patch)
    except ChangeError as error:
        raise DataError(f"{where}: column 'patch': {error}") from None


def is_test(path: str) -> bool:
    """Recognise a file of tests by its folders, or by its name."""
    *folders, name = path.split("/")
    return not _TEST_PARTS.isdisjoint(folders) or _TEST_NAME.fullmatch(name) is not None


def is_code(path: str, endings: Sequence[str] = CODE) -> bool:
    """Recognise a file of code that is no test."""
    return path.endswith(tuple(endings)) and not is_test(path)


def split_tests(files: Files, changed: Changes) -> tuple[str, str]:
    """Write a change as two patches: of everything but tests, and of tests."""
    parts = ({path: text for path, text in changed.items() if is_test(path) == test} for test in (False, True))
    source, tests = (patch_between(files, part) for part in parts)
    return source, tests


def changed_lines(patches: Sequence[FilePatch]) -> int:
    """Count the lines that patches take away or add."""
    return sum(line[0] != " " for patch in patches for hunk in patch.hunks for line in hunk.lines)


def fingerprint(patch: str) -> str:
    """A number of what a patch changes: two with the same are one change.

    Of each file count the lines that it has more of and fewer of behind the patch: programs that compare files write
    one change as different hunks. A change that only moves lines counts by these, in order.
    """
    changes = sorted(repr((file.old_path, file.new_path, _net(file))) for file in parse_patch(patch))
    return sha256(repr(changes).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _net(file: FilePatch) -> list[str]:
    lines = [line for hunk in file.hunks for line in hunk.lines if line[0] != " "]
    count = Counter({line[1:]: 0 for line in lines})
    for line in lines:
        count[line[1:]] += 1 if line[0] == "+" else -1
    net = [f"{'+' if number > 0 else '-'}{line}" * abs(number) for line, number in sorted(count.items())]
    return [part for part in net if part] or lines
