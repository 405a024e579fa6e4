"""Find the files of an issue: the model reads the issue and the tree of Python files, and names some."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.answers.thoughts import after_thoughts
from llmrl.swe.rows import is_test

MOST = 5
"""Files that the model may name."""
MOST_PATHS = 6000
"""Of a tree that is shown."""
PROMPT = """Below are an issue of a project and the tree of its Python files. Name the files that must be changed to
solve the issue, at most {most}, the most likely first. Think first; then write one path a line, from the root of the
project, between ``` and ```, and nothing else there.

### Issue
{issue}

### Files
{tree}"""
_BLOCK = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)


def candidates(paths: Sequence[str], repo: str = "") -> list[str]:
    """Python files without tests, sorted; in pytest itself files that only look like tests stay."""
    keeps_tests = repo.rpartition("/")[2] == "pytest"
    return sorted(path for path in paths if path.endswith(".py") and (keeps_tests or not is_test(path)))[:MOST_PATHS]


def tree_text(paths: Sequence[str], indent: int = 2, shuffle: random.Random | None = None) -> str:
    """Write paths as an indented tree, folders before files; in another order where `shuffle` is given."""
    root: dict[str, Any] = {}
    for path in paths:
        node = root
        *folders, name = path.split("/")
        for folder in folders:
            node = node.setdefault(folder + "/", {})
        node[name] = None
    return "\n".join(_lines(root, 0, indent, shuffle))


def _lines(node: Mapping[str, Any], depth: int, indent: int, shuffle: random.Random | None) -> list[str]:
    names = sorted(node, key=lambda name: (node[name] is None, name))
    if shuffle is not None:
        shuffle.shuffle(names)
    lines = []
    for name in names:
        lines.append(" " * (indent * depth) + name)
        if node[name] is not None:
            lines += _lines(node[name], depth + 1, indent, shuffle)
    return lines


def messages(issue: str, paths: Sequence[str], sample: int, seed: int = 0) -> list[dict[str, str]]:
    """The request for files; the first sample sees the tree sorted, others another order, indentation and number."""
    most, indent, shuffle = MOST, 2, None
    if sample:
        shuffle = random.Random(f"{seed}/{sample}")
        most, indent = shuffle.randint(2, MOST), shuffle.choice((2, 4))
    return [{"role": "user", "content": PROMPT.format(most=most, issue=issue, tree=tree_text(paths, indent, shuffle))}]


def named_files(text: str, paths: Sequence[str]) -> list[str]:
    """Paths that an answer names, exactly as they are in the tree, at most `MOST`, in its order."""
    answer = after_thoughts(text)
    blocks = _BLOCK.findall(answer)
    known = set(paths)
    named = filter(None, (blocks[-1] if blocks else answer).splitlines())
    lines = (line.strip().lstrip("-*0123456789. ").strip("`'\" ") for line in named)
    return list(dict.fromkeys(line for line in lines if line in known))[:MOST]
