"""Files that patches and fuzzed edits apply to."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmrl.swe.diffs import FilePatch


def rows(data: Path, name: str) -> list[dict[str, Any]]:
    """Rows of `lite` or `verified`."""
    with gzip.open(data / f"swebench/{name}_test.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def files_before(patches: Sequence[FilePatch]) -> dict[str, str]:
    """Files in which the old lines of each hunk stand at their numbers, with filler between them."""
    return {patch.old_path: _before(patch) for patch in patches if patch.old_path is not None}


def _before(patch: FilePatch) -> str:
    lines: list[str] = []
    for hunk in patch.hunks:
        lines += [f"# filler {number}\n" for number in range(len(lines) + 1, hunk.start)]
        lines += hunk.old
    if not patch.hunks or patch.hunks[-1].context[1]:
        lines.append("# the end\n")
    return "".join(lines)


def snapshot(root: Path) -> dict[str, tuple[int, int, str | bytes]]:
    """Everything under a folder: its kind and mode, its number and its content; links are not followed."""
    found: dict[str, tuple[int, int, str | bytes]] = {}
    for folder, inner, names in os.walk(root):
        for name in [*inner, *names]:
            path = Path(folder) / name
            state = path.lstat()
            content: str | bytes = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            found[path.relative_to(root).as_posix()] = (state.st_mode, state.st_ino, content)
    return found


HOSTILE = [
    "/etc/passwd",
    "../outside.txt",
    "../../root.txt",
    "src/../../outside.txt",
    ".git/config",
    "src/.GIT/hooks/pre-commit",
    "link/x.py",
    "link.py",
    "src/up/outside.txt",
    "~/x",
    "C:/x",
    "a\\..\\..\\x",
    "src",
    "pipe",
    "x" * 300,
    "a\x00b",
    "",
    ".",
    "src/",
]
"""Paths that lead out of the tree of `hostile_root`, or to no plain file in it."""


def hostile_root(root: Path, files: dict[str, str]) -> Path:
    """A folder `tree` with these files, with links and hard links that lead out of it to what lies beside it."""
    tree = root / "tree"
    for path, text in {"src/a.py": "x = 1\n", ".git/config": "[core]\n", **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text, encoding="utf-8", newline="")
    (root / "outside.txt").write_text("outside\n")
    (root / "beside").mkdir()
    (root / "beside/x.py").write_text("x = 1\n")
    (tree / "link").symlink_to(root / "beside")
    (tree / "link.py").symlink_to(root / "beside/x.py")
    (tree / "src/up").symlink_to("../..")
    os.link(root / "outside.txt", tree / "hard.txt")
    os.mkfifo(tree / "pipe")
    return tree


def mutations(texts: Sequence[str], count: int, seed: int) -> Iterator[str]:
    """Broken and hostile texts made of real ones."""
    draws = random.Random(seed)
    for _ in range(count):
        text = draws.choice(texts)
        for _ in range(draws.randint(1, 4)):
            text = _mutated(text, texts, draws)
        yield text


def _mutated(text: str, texts: Sequence[str], draws: random.Random) -> str:
    lines = text.split("\n")
    at = draws.randrange(len(lines))
    kind = draws.randrange(9)
    if kind == 0:
        return "\n".join(lines[:at] + lines[at + 1 :])
    if kind == 1:
        return "\n".join([*lines[:at], lines[draws.randrange(len(lines))], *lines[at:]])
    if kind == 2:
        return text[: draws.randrange(len(text) + 1)]
    if kind == 3:
        sign = draws.choice(["\x00", "\ud800", "\r", "\t", "\u2028", "<", "=", ">", "@", "+", "-", "`", "#"])
        place = draws.randrange(len(text) + 1)
        return text[:place] + sign * draws.choice([1, 5, 7]) + text[place:]
    if kind == 4:
        paths = [line for line in lines if line.startswith(("### ", "--- ", "+++ "))]
        old = draws.choice(paths)[4:] if paths else "x"
        return text.replace(old, draws.choice(["", "a/", "b/"]) + draws.choice(HOSTILE))
    if kind == 5:
        return "\n".join([*lines[:at], *draws.choice(texts).split("\n")[:20], *lines[at:]])
    if kind == 6:
        return "\n".join(line.strip() if draws.random() < 0.3 else line for line in lines)
    if kind == 7:
        return text.replace("\n", "\r\n")
    return "\n".join(lines[:at] + lines[at:][::-1])
