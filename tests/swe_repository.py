"""A git repository of 30 commits with bugs, repairs and all that curation leaves out, and its issues."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OPERATIONS = {  # name: (parameters, right, wrong, call, value)
    "add": ("a, b", "a + b", "a - b", "add(2, 3)", 5),
    "double": ("a", "2 * a", "a + 2", "double(5)", 10),
    "last": ("items", "items[-1]", "items[0]", "last([1, 2, 3])", 3),
    "is_even": ("n", "n % 2 == 0", "n % 2 == 1", "is_even(4)", True),
    "clip": ("x, low, high", "max(low, min(x, high))", "min(low, max(x, high))", "clip(7, 0, 5)", 5),
    "mean": ("items", "sum(items) / len(items)", "sum(items) // len(items)", "mean([1, 2])", 1.5),
    "first_word": ("text", "text.split()[0]", "text.split()[-1]", "first_word('a b c')", "a"),
    "join": ("items", "', '.join(items)", "','.join(items)", "join(['a', 'b'])", "a, b"),
}


@dataclass
class SweRepository:
    """A repository under construction."""

    folder: Path
    issues: list[dict[str, Any]] = field(default_factory=list)
    commits: int = 0

    def write(self, path: str, text: str) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    def git(self, *arguments: str) -> str:
        when = f"2024-01-{self.commits // 24 + 1:02}T{self.commits % 24:02}:00:00+00:00"
        people = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when, "GIT_CONFIG_GLOBAL": os.devnull}
        command = ["git", "-C", str(self.folder), "-c", "user.email=a@example.org", "-c", "user.name=Ada", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30, env={**os.environ, **people}
        )
        return done.stdout.strip()

    def commit(self, message: str, author: str = "Ada <a@example.org>") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "--author", author, "-m", message)
        self.commits += 1
        return self.git("rev-parse", "HEAD")

    def issue(self, title: str, body: str = "", **more: Any) -> int:
        number = len(self.issues) + 1
        self.issues.append({"number": number, "title": title, "body": body, "user": {"login": "ada"}, **more})
        return number


def module(name: str, wrong: bool) -> str:
    parameters, right, broken, _, _ = OPERATIONS[name]
    return f'"""The operation {name}."""\n\n\ndef {name}({parameters}):\n    return {broken if wrong else right}\n'


def test_of(name: str) -> str:
    *_, call, value = OPERATIONS[name]
    return f"from calc.{name} import {name}\n\n\ndef test_{name}():\n    assert {call} == {value!r}\n"


def build(folder: Path) -> tuple[Path, Path]:
    """Make the repository; its folder, and the file of its issues and pull requests.

    Commits: two modules with a bug each (1), six more (6), and their repairs: plain (4), squashed (2), merged (2, of
    two commits each and the merge); a moved file. Left out: by a bot, tests only, documentation only, too many lines,
    too many files, bytes, two changes without an issue, one of an issue that is no fault, a repair made again.
    """
    made = SweRepository(folder / "calc")
    made.folder.mkdir(parents=True)
    made.git("init", "-q", "-b", "main")
    made.write("calc/__init__.py", '"""Small operations."""\n')
    made.write("README.md", "# calc\n")
    made.write("tests/__init__.py", "")
    for number, name in enumerate(OPERATIONS):
        made.write(f"calc/{name}.py", module(name, wrong=True))
        if number:
            made.commit(f"Operation {name}" if number > 1 else "Begin")
    for number, name in enumerate(OPERATIONS):
        _repair(made, name, how=("plain", "squashed", "merged", "plain")[number % 4])
    _left_out(made)
    issues = folder / "issues.json"
    issues.write_text(json.dumps(made.issues), encoding="utf-8")
    return made.folder, issues


def _repair(made: SweRepository, name: str, how: str) -> None:
    *_, call, value = OPERATIONS[name]
    bug = made.issue(f"{name} gives a wrong result", f"`{call}` should be {value!r}, it is not.")
    if how == "merged":
        made.git("checkout", "-q", "-b", f"repair-{name}")
        made.write(f"calc/{name}.py", module(name, wrong=False))
        made.commit(f"Mend {name}")
        made.write(f"tests/test_{name}.py", test_of(name))
        made.commit("With a test")
        made.git("checkout", "-q", "main")
        pull = made.issue(
            f"Mend {name}", f"Closes #{bug}.", pull_request={"url": "x"}, merged_at="2024-01-02T00:00:00Z"
        )
        message = f"Merge pull request #{pull} from ada/repair-{name}\n\nMend {name}"
        made.git("merge", "-q", "--no-ff", "-m", message, f"repair-{name}")
        made.commits += 1
        return
    made.write(f"calc/{name}.py", module(name, wrong=False))
    made.write(f"tests/test_{name}.py", test_of(name))
    if how == "squashed":
        pull = made.issue(f"Mend {name}", f"Resolves: #{bug}", pull_request={"url": "x"})
        made.commit(f"Mend {name} (#{pull})")
    else:
        made.commit(f"Mend {name}\n\nFixes #{bug}")


def _left_out(made: SweRepository) -> None:
    wish = made.issue("Please add subtraction", "It would be nice.", labels=[{"name": "enhancement"}])
    bug = made.issue("Everything crashes", labels=[{"name": "bug"}])
    made.write("requirements.txt", "numpy\n")
    made.write("calc/add.py", module("add", wrong=False) + "\n# pinned\n")
    made.commit(f"Bump numpy, fixes #{bug}", author="dependabot[bot] <b@example.org>")
    made.write("tests/test_more.py", "def test_more():\n    pass\n")
    made.commit(f"Test more, fixes #{bug}")
    made.write("README.md", "# calc\n\nfixed\n")
    made.commit(f"Fix the documentation, fixes #{bug}")
    made.write("calc/long.py", "".join(f"x{number} = {number}\n" for number in range(400)))
    made.commit(f"A table, fixes #{bug}")
    for number in range(7):
        made.write(f"calc/part{number}.py", "x = 1\n")
    made.commit(f"Parts, fixes #{bug}")
    (made.folder / "calc/logo.py").write_bytes(b"\xff\x00\x01")
    made.commit(f"A logo, fixes #{bug}")
    made.write("calc/part0.py", "x = 2\n")
    made.commit("Change a part for no reason")
    made.write("calc/sub.py", "def sub(a, b):\n    return a - b\n")
    made.commit(f"Subtraction, closes #{wish}")
    made.write("calc/double.py", module("double", wrong=True))
    made.commit("Take the repair of double back")
    made.write("calc/double.py", module("double", wrong=False))
    made.commit("Mend double again\n\nFixes #2")
    made.git("mv", "calc/part1.py", "calc/part9.py")
    made.commit(f"Move a part, fixes #{bug}")
