"""Similarity of two changes of a repository: the reward of SWE-RL, for which no code has to run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmrl.types import Problem, Score

TAGS = ("<think>", "</think>", "<solution>", "</solution>")
HEAD = re.compile(r"\n### (.*)\n<<<<<<< SEARCH\n")
MIDDLE, TAIL = "\n=======\n", "\n>>>>>>> REPLACE\n```"
Files = Mapping[str, str]


class FormError(ValueError):
    """An answer that is no edit of these files; `kind` names the rule that it broke."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class SweSimilarity:
    """-1 for an answer without edits that apply; else how alike its changes and the reference's are, 0 to 1.

    The answer has one pair of think tags with a thought and, behind it, one pair of solution tags with search/replace
    blocks. A block replaces every place where its lines begin a line; they must occur, and must change. Of
    each file that either side changes, the lines of the unified diff with three lines around them are compared (by
    `difflib`, no junk); a file that only one side changes counts 0; the value is their mean. Similar is not right: a
    different repair that works gets little, and copied lines get something. The verdict stays None: judge by tests.
    The problem has `files` in `info`, from paths to text, and `oracle_new`, the changed ones as they should be.
    Source: Wei et al. 2025 (arXiv 2502.18449), and its released reward function.

    Raises:
        ValueError: the problem has no such columns, or a diff of the reference is longer than `max_characters`.
    """

    max_characters: int = 6_000  # of one file's diff; a longer one counts 0: the time is that of their product

    def __call__(self, problem: Problem, text: str) -> Score:
        files, wanted = _files(problem.info, "files"), _files(problem.info, "oracle_new")
        oracle = changes(files, wanted)
        if long := [path for path, diff in oracle.items() if len(diff) > self.max_characters]:
            raise ValueError(f"the reference's diff of {long[0]} is longer than {self.max_characters} characters")
        try:
            found = changes(files, edited(files, text), self.max_characters)
        except FormError as error:
            return Score(-1.0, parts={"applied": 0.0, f"failed_{error.kind}": 1.0}, reason=str(error))
        shares = alike(found, oracle, self.max_characters)
        value = sum(shares.values()) / len(shares) if shares else 1.0
        parts = {
            "applied": 1.0,
            "same": float(found == oracle),
            "files": float(len(found)),
            "too_long": float(sum(len(diff) > self.max_characters for diff in found.values())),
        }
        return Score(value, parts=parts, reason=", ".join(f"{path} {share:.3f}" for path, share in shares.items()))


def edited(files: Files, text: str) -> dict[str, str]:
    """Apply an answer's edits; the changed files.

    Raises:
        FormError: a tag is missing or there twice, the thought is empty, there is no edit, or one does not apply.
    """
    for tag in TAGS:
        if text.count(tag) != 1:
            raise FormError("tags", f"{tag} stands there {text.count(tag)} times; expected once")
    if not _between(text, "<think>", "</think>"):
        raise FormError("tags", "the thought is empty")
    if text.index("<solution>") < text.index("</think>"):
        raise FormError("tags", "the solution stands in the thoughts, or before them")
    blocks = blocks_of(_between(text, "<solution>", "</solution>"))
    if not blocks:
        raise FormError("no_edit", "no search/replace block in the solution")
    changed: dict[str, str] = {}
    for path, search, replacement in blocks:
        now = changed.get(path, "\n" + files.get(path, ""))  # so that the searched text begins a line
        if search == replacement:
            raise FormError("same", f"{path}: a block replaces lines by themselves")
        if "\n" + search not in now:
            raise FormError("not_found", f"{path}: no such lines as {search[:80]!r}")
        changed[path] = now.replace("\n" + search, "\n" + replacement)
    return {path: now[1:] for path, now in changed.items()}


def blocks_of(solution: str) -> list[tuple[str, str, str]]:
    """Find the search/replace blocks: path, lines to search and lines in their place.

    As the expression ```` ```.*?\\n### (.*)\\n<<<<<<< SEARCH\\n(.*?)\\n=======\\n(.*?)\\n>>>>>>> REPLACE\\n``` ````, in
    which only the lazy groups run over lines; but in one pass, also where a block never ends.
    """
    blocks, at = [], 0
    while head := HEAD.search(solution, at):
        fence = solution.rfind("```", max(at, solution.rfind("\n", at, head.start()) + 1), head.start())
        if fence < 0:
            at = head.start() + 1
            continue
        middle = solution.find(MIDDLE, head.end())
        tail = solution.find(TAIL, middle + len(MIDDLE)) if middle >= 0 else -1
        if tail < 0:
            break
        blocks.append((head[1], solution[head.end() : middle], solution[middle + len(MIDDLE) : tail]))
        at = tail + len(TAIL)
    return blocks


def changes(files: Files, changed: Files, most: int | None = None) -> dict[str, str]:
    """Unified diff of each file that changed, without its two lines of names.

    A file that grew by more than `most` characters stands for its diff, which is longer than that, too.
    """
    diffs = {}
    for path, now in changed.items():
        if most is not None and len(now) > len(files.get(path, "")) + most:
            diffs[path] = now
            continue
        lines = difflib.unified_diff(files.get(path, "").splitlines(), now.splitlines(), lineterm="", n=3)
        if diff := "\n".join(list(lines)[2:]):
            diffs[path] = diff
    return diffs


def alike(found: Files, wanted: Files, max_characters: int) -> dict[str, float]:
    """Similarity of two sets of diffs, file by file, 0 to 1."""
    return {path: _ratio(found.get(path), wanted.get(path), max_characters) for path in {**wanted, **found}}


def _ratio(found: str | None, wanted: str | None, max_characters: int) -> float:
    if found is None or wanted is None or len(found) > max_characters:
        return 0.0
    return 1.0 if found == wanted else difflib.SequenceMatcher(None, found, wanted, autojunk=False).ratio()


def _between(text: str, start: str, end: str) -> str:
    return text.split(start)[1].split(end)[0].strip()


def _files(info: Mapping[str, Any], column: str) -> Files:
    files = info.get(column)
    if isinstance(files, Mapping) and all(isinstance(part, str) for pair in files.items() for part in pair):
        return files
    raise ValueError(f"no column {column!r} from paths to text, only {', '.join(info) or 'no columns'}")


plugin = SweSimilarity
