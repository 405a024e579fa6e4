"""An instance of a software-engineering task: a tree of files, and the tests that a repair must make pass."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from llmrl.errors import DataError
from llmrl.types import Problem

Runner = Literal["pytest", "unittest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A task, by the columns of SWE-bench (Jimenez et al. 2024, arXiv 2310.06770) and some of our own.

    Its tree is that of `repo` at `base_commit`, or `files` where it has no commit.
    """

    id: str
    repo: str = ""  # owner/name, or the path of a clone
    base_commit: str = ""
    files: Mapping[str, str] = field(default_factory=dict)  # of the whole tree, where there is no commit
    patch: str = ""  # the reference
    oracle: Mapping[str, str] = field(default_factory=dict)  # edited files behind it; "" for one that is deleted
    test_patch: str = ""
    test_files: Mapping[str, str] = field(default_factory=dict)  # whole files of tests, in place of a patch
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    runner: Runner = "pytest"
    arguments: tuple[str, ...] = ()  # of the runner; (): the files of tests
    version: str = ""  # of the project, by which SWE-bench chooses an environment
    environment: str | None = None  # a virtual environment of its own
    issue: str = ""  # the problem in words

    @classmethod
    def of(cls, problem: Problem) -> Instance:
        """Read the columns of a problem's `info`.

        Raises:
            DataError: a column is missing or broken.
        """
        info, where = problem.info, f"problem {problem.id}"
        files = _texts(info, "files", where)
        commit = _text(info, "base_commit", where)
        if not commit and not files:
            raise DataError(
                f"{where}: neither `base_commit` (with `repo`) nor `files`; found {', '.join(info) or 'no columns'}"
            )
        runner = _text(info, "test_runner", where) or "pytest"
        if runner not in get_args(Runner):
            raise DataError(f"{where}: test_runner {runner!r}; expected one of {', '.join(get_args(Runner))}")
        return cls(
            id=_text(info, "instance_id", where) or problem.id,
            repo=_text(info, "repo", where),
            base_commit=commit,
            files=files,
            patch=_text(info, "patch", where),
            oracle=_texts(info, "oracle_new", where),
            test_patch=_text(info, "test_patch", where),
            test_files=_texts(info, "test_files", where),
            fail_to_pass=_names(info, "FAIL_TO_PASS", where),
            pass_to_pass=_names(info, "PASS_TO_PASS", where),
            runner=runner,  # type: ignore[arg-type]
            arguments=_names(info, "test_arguments", where),
            version=_text(info, "version", where),
            environment=_text(info, "environment", where) or None,
            issue=_text(info, "problem_statement", where) or _issue(info, where),
        )


def _text(info: Mapping[str, Any], column: str, where: str) -> str:
    value = info.get(column)
    if value is None or isinstance(value, str):
        return value or ""
    raise DataError(f"{where}: column {column!r} holds {type(value).__name__}; expected text")


def _issue(info: Mapping[str, Any], where: str) -> str:
    """The issue of rows that hold its title apart."""
    return f"{_text(info, 'issue_title', where)}\n{_text(info, 'issue_body', where)}".strip()


def _texts(info: Mapping[str, Any], column: str, where: str) -> Mapping[str, str]:
    value = info.get(column) or {}
    if isinstance(value, Mapping) and all(isinstance(part, str) for pair in value.items() for part in pair):
        return value
    raise DataError(f"{where}: column {column!r}: expected an object from paths to texts")


def _names(info: Mapping[str, Any], column: str, where: str) -> tuple[str, ...]:
    """Read a list of texts, which older files of SWE-bench hold as JSON in a text."""
    value = info.get(column) or []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise DataError(f"{where}: column {column!r}: expected a list of texts, or one as JSON")
