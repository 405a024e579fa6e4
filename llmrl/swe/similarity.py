"""Similarity of two changes of a repository, by the lines of their diffs: the measure of SWE-RL's reward."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from llmrl.swe.diffs import parse_patch
from llmrl.swe.tree import ChangeError, Files

MOST = 6_000  # characters of one file's diff that are compared: the time is that of the product of two lengths


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


def patch_changes(patch: str) -> dict[str, str]:
    """The hunks of each file of a patch; a patch that cannot be read changes no file."""
    try:
        return {file.path: file.body for file in parse_patch(patch)}
    except ChangeError:
        return {}


def alike(found: Files, wanted: Files, max_characters: int = MOST) -> dict[str, float]:
    """Similarity of two sets of diffs, file by file, 0 to 1; a file that only one side changes counts 0."""
    return {path: _ratio(found.get(path), wanted.get(path), max_characters) for path in {**wanted, **found}}


def mean(shares: Mapping[str, float]) -> float:
    """Similarity of two changes by that of their files; 1 where neither changes anything."""
    return sum(shares.values()) / len(shares) if shares else 1.0


def patch_similarity(patch: str, gold: str) -> float:
    """Similarity of two patches, 0 to 1; each file's hunks are compared as the reward compares diffs."""
    return mean(alike(patch_changes(patch), patch_changes(gold)))


def _ratio(found: str | None, wanted: str | None, max_characters: int) -> float:
    if found is None or wanted is None or len(found) > max_characters:
        return 0.0
    return 1.0 if found == wanted else difflib.SequenceMatcher(None, found, wanted, autojunk=False).ratio()
