"""Changes that an answer of a policy makes: by search/replace blocks, or by a unified diff."""

from __future__ import annotations

import re
from typing import Literal

from llmrl.answers.thoughts import after_thoughts
from llmrl.swe.edits import read_edits, strict_edits
from llmrl.swe.patches import apply_patch
from llmrl.swe.replace import replaced, replaced_strictly
from llmrl.swe.tree import Changes, Files, inside

AnswerForm = Literal["any", "strict", "diff"]
"""How answers are read:

    any     search/replace blocks as models write them, or else a unified diff
    strict  SWE-RL's form to the letter: <think>, <solution>, blocks
    diff    a unified diff
"""
_DIFF = re.compile(r"^(?:diff --git |--- a/|--- /dev/null)", re.MULTILINE)
_FENCE = re.compile(r"^```", re.MULTILINE)


def changes_of(files: Files, text: str, form: AnswerForm = "any") -> Changes:
    """Read an answer, and apply it to these files.

    Returns:
        The new text of each file that changed; None where it is deleted.
    Raises:
        ChangeError: it has no change that can be read, or one that does not apply, or that leads out of the tree.
    """
    if form == "strict":
        made = replaced_strictly(files, strict_edits(text))
        return {inside(path): new for path, new in made.items() if new != files.get(path, "")}
    if form == "diff" or is_diff(text):
        return apply_patch(files, diff_of(text))
    return replaced(files, read_edits(text))


def is_diff(text: str) -> bool:
    """Tell whether an answer holds a unified diff, and no search/replace block."""
    answer = after_thoughts(text)
    return "<<<<<<<" not in answer and _DIFF.search(answer) is not None


def diff_of(text: str) -> str:
    """The unified diff of an answer: from its first line on, to the end of the block that it stands in."""
    answer = after_thoughts(text)
    first = _DIFF.search(answer)
    diff = answer[first.start() :] if first else answer
    return diff[: end.start()] if (end := _FENCE.search(diff)) else diff
