"""A git repository with a bug, and rows of SWE-bench's format about it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

BUGGY = "def add(a, b):\n    return a - b\n\n\ndef neg(a):\n    return -a\n"
GOLD = """diff --git a/pkg/calc.py b/pkg/calc.py
--- a/pkg/calc.py
+++ b/pkg/calc.py
@@ -1,5 +1,5 @@
 def add(a, b):
-    return a - b
+    return a + b
 
 
 def neg(a):
"""
TEST_PATCH = """diff --git a/tests/test_calc.py b/tests/test_calc.py
--- a/tests/test_calc.py
+++ b/tests/test_calc.py
@@ -3,3 +3,7 @@
 
 def test_neg():
     assert neg(2) == -2
+
+
+def test_add():
+    assert add(2, 3) == 5
"""
FILES = {
    "pkg/__init__.py": "",
    "pkg/calc.py": BUGGY,
    "pkg/other.py": "from pkg.calc import add\n\n\ndef twice(a):\n    return add(a, a) + 2 * a\n",
    "setup.py": "",
    "tests/test_calc.py": "from pkg.calc import add, neg\n\n\ndef test_neg():\n    assert neg(2) == -2\n",
    "data.bin": "\udcff\udcfe\0",
}


def git(folder: Path, *words: str) -> str:
    author = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *words],
        cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **author},
    )  # fmt: skip
    return done.stdout.strip()


def made(folder: Path, name: str = "owner__calc") -> dict[str, Any]:
    """Make a bare clone `folder/name` and return the row of its bug."""
    work = folder / "work"
    work.mkdir(parents=True)
    for path, text in FILES.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(text.encode("utf-8", "surrogateescape"))
    os.symlink("pkg", work / "link")
    git(work, "init", "-q")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "Add a calculator")
    commit = git(work, "rev-parse", "HEAD")
    (work / "pkg" / "calc.py").write_text(BUGGY.replace("a - b", "a + b"))
    git(work, "commit", "-qam", "Mend add")
    git(folder, "clone", "-q", "--bare", str(work), name)
    return {
        "instance_id": "owner__calc-1",
        "repo": "owner/calc",
        "base_commit": commit,
        "problem_statement": "add(2, 3) is -1; it must be 5.",
        "patch": GOLD,
        "test_patch": TEST_PATCH,
        "FAIL_TO_PASS": '["tests/test_calc.py::test_add"]',
        "PASS_TO_PASS": '["tests/test_calc.py::test_neg"]',
        "version": "1",
    }
