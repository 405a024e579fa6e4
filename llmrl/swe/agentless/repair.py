"""Ask for repairs, and make patches of the answers."""

from __future__ import annotations

import ast
import random
from collections.abc import Mapping, Sequence
from itertools import cycle, islice

from llmrl.swe import prompt
from llmrl.swe.answers import changes_of
from llmrl.swe.patches import patch_between
from llmrl.swe.tree import ChangeError, Files
from llmrl.types import Message


def file_sets(localised: Sequence[Sequence[str]], samples: int) -> list[list[str]]:
    """The files that each sample sees: the distinct sets that were found, in turn; none where none was found."""
    sets = list(dict.fromkeys(tuple(files) for files in localised if files))
    return [list(files) for files in islice(cycle(sets), samples)] if sets else []


def messages(
    issue: str, files: Files, paths: Sequence[str], most_characters: int, sample: int, seed: int = 0
) -> list[Message]:
    """The request for a repair: whole files, those that do not fit left out, but never the first.

    Args:
        most_characters: of all files together.
        sample: the first sees the files in the order in which they were found, others in one of their own.
    """
    chosen = fitting(files, paths, most_characters)
    if sample:
        random.Random(f"{seed}/{sample}").shuffle(chosen)
    return prompt.messages(issue, "", {path: files[path] for path in chosen})


def fitting(files: Files, paths: Sequence[str], most_characters: int) -> list[str]:
    """Paths whose files fit together, in order; the first always."""
    chosen: list[str] = []
    used = 0
    for path in paths:
        if path not in files:
            continue
        size = len(files[path])
        if chosen and used + size > most_characters:
            continue
        chosen.append(path)
        used += size
    return chosen


def patched(files: Files, text: str) -> Mapping[str, str | None]:
    """Changes that an answer makes; none where it cannot be read or applied, breaks Python or changes only blanks."""
    try:
        changes = changes_of(files, text)
    except ChangeError:
        return {}
    for path, new in changes.items():
        if new is not None and path.endswith(".py") and not is_python(new) and is_python(files.get(path, "")):
            return {}
    if all(
        _without_blank_lines(files.get(path, "")) == _without_blank_lines(new or "") for path, new in changes.items()
    ):
        return {}
    return changes


def patch_of(files: Files, changes: Mapping[str, str | None]) -> str:
    """The unified diff of changes."""
    return patch_between(files, changes)


def is_python(text: str) -> bool:
    """Tell whether a text parses as Python."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _without_blank_lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]
