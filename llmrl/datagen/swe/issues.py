"""Issues and pull requests as GitHub's API gives them, and which of them a change belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.datafiles.rows import file_rows
from llmrl.errors import DataError

_FIXES = re.compile(r"\b(?:fix|fixe[sd]|close[sd]?|resolve[sd]?):?\s+(?:[\w.-]+/[\w.-]+)?#(\d{1,9})\b", re.IGNORECASE)
_PULL = re.compile(r"Merge pull request #(\d{1,9}) |\(#(\d{1,9})\)$")
_TRAILERS = re.compile(r"(?:Signed-off-by|Co-authored-by|Reviewed-by|Change-Id|Cc):.*", re.IGNORECASE)
_BUG = re.compile(
    r"\b(?:bugs?|bugfix|fix(?:es|ed)?|errors?|exceptions?|traceback|crash(?:es|ed)?|fail(?:s|ed|ure|ures|ing)?"
    r"|wrong(?:ly)?|incorrect(?:ly)?|broken|breaks|regression|unexpected(?:ly)?|raises|hangs?|leaks?)\b",
    re.IGNORECASE,
)
_BOT = re.compile(r"\[bot\]|^(?:dependabot|renovate|pre-commit-ci|github-actions|greenkeeper|pyup|snyk)\b|\bbot$", re.I)


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue or a pull request."""

    number: int
    title: str
    body: str
    labels: Sequence[str] = ()
    author: str = ""
    is_pull: bool = False
    merge_commit: str = ""


class Issues:
    """Issues and pull requests of a repository; none where there is no file."""

    def __init__(self, path: Path | None) -> None:
        issues = [] if path is None else [_issue(row.values, row.where) for row in file_rows(path)]
        self.by_number = {issue.number: issue for issue in issues}
        self.by_commit = {issue.merge_commit: issue for issue in issues if issue.merge_commit}

    def of(self, commit: str, message: str) -> Iterator[Issue]:
        """Issues that a change resolves, by the words of its pull request and of its message; each once.

        As on GitHub: `fixes #12`, `closes owner/name#12`, `resolved: #12`.
        """
        subject = message.partition("\n")[0]
        numbers = [int(number) for match in _PULL.finditer(subject) for number in match.groups() if number]
        pulls = [self.by_commit.get(commit), *(self.by_number.get(number) for number in numbers)]
        texts = [message, *(f"{pull.title}\n{pull.body}" for pull in pulls if pull is not None)]
        linked = [int(match[1]) for text in texts for match in _FIXES.finditer(text)]
        for number in dict.fromkeys(linked):
            issue = self.by_number.get(number)
            if issue is not None and not issue.is_pull:
                yield issue

    def pull_of(self, commit: str, message: str) -> Issue | None:
        """The pull request that became a commit."""
        match = _PULL.search(message.partition("\n")[0])
        number = int(match[1] or match[2]) if match else -1
        return self.by_commit.get(commit) or self.by_number.get(number)


def issue_of_message(message: str) -> Issue:
    """Take the message of a commit for its issue, without what tools add to it."""
    lines = [line for line in message.split("\n") if not _TRAILERS.fullmatch(line.strip())]
    if lines and lines[0].startswith(("Merge pull request", "Merge branch", "Merge remote")):
        lines = lines[1:]
    title, _, body = "\n".join(lines).strip().partition("\n")
    return Issue(0, _PULL.sub("", title).strip(), body.strip())


def describes_bug(issue: Issue) -> bool:
    """Tell by labels, else by words, if an issue is of a fault."""
    return any("bug" in label.lower() for label in issue.labels) or bool(_BUG.search(f"{issue.title}\n{issue.body}"))


def is_bot(name: str) -> bool:
    """Recognise the name of a program that commits."""
    return bool(_BOT.search(name.strip()))


def _issue(values: Mapping[str, Any], where: str) -> Issue:
    """Read an object of GitHub's API: of issues, of pull requests, or of issues with pull requests among them."""
    number, title = values.get("number"), values.get("title")
    if not isinstance(number, int) or not isinstance(title, str):
        raise DataError(f"{where}: expected an issue with a number and a title; found {', '.join(values) or 'nothing'}")
    given = values.get("labels") or []
    if not isinstance(given, list):
        raise DataError(f"{where}: labels: expected a list, found {type(given).__name__}")
    labels = [str(label.get("name") or "") if isinstance(label, dict) else str(label) for label in given]
    user = values.get("user") or {}
    author = user.get("login") or "" if isinstance(user, dict) else str(user)
    is_pull = any(values.get(key) for key in ("pull_request", "merge_commit_sha", "merged_at", "base"))
    body = values.get("body") or ""
    return Issue(number, title, str(body), labels, str(author), is_pull, str(values.get("merge_commit_sha") or ""))
