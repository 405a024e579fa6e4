"""Similarity of two changes of a repository: the reward of SWE-RL, for which no code has to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmrl.recipe.ranges import Count
from llmrl.swe.edits import strict_edits
from llmrl.swe.replace import replaced_strictly
from llmrl.swe.similarity import MOST, alike, changes, mean
from llmrl.swe.tree import ChangeError, Files
from llmrl.types import Problem, Score


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

    max_characters: Count = MOST  # of one file's diff; a longer one counts 0: the time is that of their product

    def __call__(self, problem: Problem, text: str) -> Score:
        files, wanted = _files(problem.info, "files"), _files(problem.info, "oracle_new")
        oracle = changes(files, wanted)
        if long := [path for path, diff in oracle.items() if len(diff) > self.max_characters]:
            raise ValueError(f"the reference's diff of {long[0]} is longer than {self.max_characters} characters")
        try:
            found = changes(files, edited(files, text), self.max_characters)
        except ChangeError as error:
            return Score(-1.0, parts={"applied": 0.0, f"failed_{error.kind}": 1.0}, reason=str(error))
        shares = alike(found, oracle, self.max_characters)
        parts = {
            "applied": 1.0,
            "same": float(found == oracle),
            "files": float(len(found)),
            "too_long": float(sum(len(diff) > self.max_characters for diff in found.values())),
        }
        return Score(
            mean(shares), parts=parts, reason=", ".join(f"{path} {share:.3f}" for path, share in shares.items())
        )


def edited(files: Files, text: str) -> dict[str, str]:
    """Apply an answer's edits; the files that they name.

    Raises:
        ChangeError: a tag is missing or there twice, the thought is empty, there is no edit, or one does not apply.
    """
    return replaced_strictly(files, strict_edits(text))


def _files(info: Mapping[str, Any], column: str) -> Files:
    files = info.get(column)
    if isinstance(files, Mapping) and all(isinstance(part, str) for pair in files.items() for part in pair):
        return files
    raise ValueError(f"no column {column!r} from paths to text, only {', '.join(info) or 'no columns'}")


plugin = SweSimilarity
