"""Choose one of many repairs: by tests that must not break, by tests that reproduce the issue, by majority."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from llmrl.swe.tree import Files


def normal(files: Files, changes: Mapping[str, str | None]) -> str:
    """A repair as it counts in a vote: without comments, docstrings and the layout of Python; "" for no change."""
    kept = {path: _normal_text(path, text) for path, text in changes.items()}
    kept = {path: text for path, text in kept.items() if text != _normal_text(path, files.get(path))}
    return json.dumps(kept, sort_keys=True) if kept else ""


def _normal_text(path: str, text: str | None) -> str | None:
    if text is None or not path.endswith(".py"):
        return text
    try:
        return _normal_python(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: a number of too many digits to write
        return text


def _normal_python(text: str) -> str:
    parsed = ast.parse(text)
    for node in ast.walk(parsed):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(parsed)


def least_broken(broken: Mapping[int, Collection[str]]) -> list[int]:
    """The repairs that break the fewest tests which passed before.

    Args:
        broken: of each repair, the tests that it breaks.
    """
    fewest = min((len(tests) for tests in broken.values()), default=0)
    return [repair for repair, tests in broken.items() if len(tests) == fewest]


def consensus(passed: Mapping[int, Collection[str]]) -> list[int]:
    """The repairs of the groups with the highest score: (tests passed)^2 * repairs that pass exactly these.

    Args:
        passed: of each repair, the reproduction tests that it passes.
    Source: Agentless-Mini, Wei et al. 2025 (arXiv 2502.18449).
    """
    groups = Counter(frozenset(tests) for tests in passed.values())
    best = max((len(tests) ** 2 * count for tests, count in groups.items()), default=0)
    return [repair for repair, tests in passed.items() if len(tests) ** 2 * groups[frozenset(tests)] == best]


def majority(keys: Sequence[str], among: Collection[int]) -> int | None:
    """The first repair of the most frequent kind; None where there is none.

    Args:
        keys: of each repair, `normal`; "" does not vote.
        among: the repairs that are left.
    """
    votes = Counter(keys[repair] for repair in among if keys[repair])
    if not votes:
        return None
    most = max(votes.values())
    return next(repair for repair in sorted(among) if keys[repair] and votes[keys[repair]] == most)


def chosen(
    keys: Sequence[str],
    broken: Mapping[int, Collection[str]] | None = None,
    passed: Mapping[int, Collection[str]] | None = None,
) -> int | None:
    """Choose a repair: those that break least, of these those of the best consensus, of these the majority's.

    Args:
        keys: of each repair, `normal`.
        broken, passed: see `least_broken` and `consensus`; None where no such tests were run.
    """
    left: Collection[int] = [repair for repair, key in enumerate(keys) if key]
    if broken is not None:
        left = least_broken({repair: broken[repair] for repair in left if repair in broken}) or left
    if passed is not None and any(passed.get(repair) for repair in left):
        left = consensus({repair: passed[repair] for repair in left if repair in passed}) or left
    return majority(keys, left)
