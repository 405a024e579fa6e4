"""The reward by a project's own tests: right and wrong repairs, the official rules, and repairs that cheat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import DataError, RewardError
from llmrl.rewards.swe_tests import SweTests
from llmrl.scoring.manager import GradingPool
from llmrl.types import Problem, Score

REWARD = SweTests(timeout_s=60.0)  # a machine may be busy
FILES = {
    "pkg/__init__.py": "",
    "pkg/calc.py": "def add(a, b):\n    return a - b\n\n\ndef neg(a):\n    return -a\n",
    "conftest.py": "",
}
TESTS = """import pytest
from pkg.calc import add, neg

@pytest.mark.parametrize("text", ["one word", "two"])
def test_add(text):
    assert add(2, 3) == 5

def test_neg():
    assert neg(2) == -2

@pytest.mark.xfail
def test_expected():
    assert neg(2) == 2

def test_skipped():
    pytest.skip("here")
"""
FAILS = ["tests/test_calc.py::test_add[one word]", "tests/test_calc.py::test_add[two]"]
PASSES = ["tests/test_calc.py::test_neg", "tests/test_calc.py::test_expected", "tests/test_calc.py::test_skipped"]
INFO: dict[str, Any] = {
    "files": FILES,
    "test_files": {"tests/test_calc.py": TESTS},
    "FAIL_TO_PASS": FAILS,
    "PASS_TO_PASS": PASSES,
}


def edit(path: str, search: str, replacement: str) -> str:
    parts = [f"### {path}", "<<<<<<< SEARCH", *([search] if search else []), "=======", replacement, ">>>>>>> REPLACE"]
    return "```python\n" + "\n".join(parts) + "\n```\n"


def grade(text: str, info: dict[str, Any] = INFO, reward: SweTests = REWARD) -> Score:
    return reward(Problem(id="p", messages=(), info=info), f"<think>so</think><solution>{text}</solution>")


RIGHT = edit("pkg/calc.py", "    return a - b", "    return a + b")
WRONG = edit("pkg/calc.py", "    return a - b", "    return a * b")


def test_a_right_repair_is_paid() -> None:
    score = grade(RIGHT)
    assert (score.value, score.verdict) == (1.0, "correct"), score.reason
    assert score.parts == {"applied": 1.0, "fail_to_pass": 1.0, "pass_to_pass": 1.0}


def test_a_diff_is_read_too() -> None:
    diff = "diff --git a/pkg/calc.py b/pkg/calc.py\n--- a/pkg/calc.py\n+++ b/pkg/calc.py\n@@ -1,3 +1,3 @@\n"
    diff += " def add(a, b):\n-    return a - b\n+    return a + b\n \n"
    assert grade(f"```diff\n{diff}```").verdict == "correct"


def test_a_wrong_repair_is_not() -> None:
    score = grade(WRONG)
    assert (score.value, score.verdict) == (0.0, "wrong")
    assert score.parts["fail_to_pass"] == 0.0
    assert score.reason == "0% of 2 tests that must begin to pass, 100% of 3 that must go on"


def test_shares() -> None:
    """`a + b` only for odd `b`: one of two inputs; the share counts while nothing else breaks."""
    tests = TESTS.replace("add(2, 3) == 5", "add(2, 3 if text == 'two' else 4) == (5 if text == 'two' else 6)")
    info = {**INFO, "test_files": {"tests/test_calc.py": tests}}
    shared = SweTests(timeout_s=60.0, credit="share")
    half = edit("pkg/calc.py", "    return a - b", "    return a + b if b % 2 else 0")
    assert (grade(half, info, shared).value, grade(half, info).value) == (0.5, 0.0)
    breaks = edit("pkg/calc.py", "    return -a", "    return a")
    assert grade(half + breaks, info, shared).value == 0.0


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "no_edit"),
        ("no edit here", "no_edit"),
        (edit("pkg/calc.py", "    return b - a", "    return a + b"), "not_found"),
        (edit("../calc.py", "", "x = 1"), "outside"),
        (edit("/etc/passwd", "", "x = 1"), "outside"),
        (edit(".git/hooks/post-checkout", "", "x = 1"), "outside"),
    ],
)
def test_answers_without_a_repair(text: str, kind: str) -> None:
    score = grade(text, reward=SweTests(timeout_s=60.0, malformed=-1.0))
    assert (score.value, score.verdict) == (-1.0, "unparsable")
    assert score.parts[f"failed_{kind}"] == 1.0


PATCHES_PYTEST = """import pytest

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome = "passed"
"""
PATCHES_REPORTS = """import _pytest.reports
made = _pytest.reports.TestReport.from_item_and_call
def always(item, call):
    report = made(item, call)
    report.outcome, report.longrepr = "passed", None
    return report
_pytest.reports.TestReport.from_item_and_call = staticmethod(always)
"""
FORGES = """import os, json
for end in range(3, 64):
    for number in range(20):
        for test in TESTS:
            try:
                body = json.dumps([number, {"test": test, "status": "PASSED"}])
                os.write(end, (body + "\\t" + "0" * 64 + "\\n").encode())
            except OSError:
                pass
""".replace("TESTS", repr(FAILS))
PRINTS = "\n".join(f"print({f'PASSED {test}'!r})" for test in FAILS)
CUTS = """import os
for end in range(3, 64):
    try:
        os.ftruncate(end, 0)
    except OSError:
        pass
os._exit(1)"""
OVERWRITES = """import os
for end in range(3, 64):
    try:
        os.pwrite(os.open(f'/proc/self/fd/{end}', os.O_RDWR), b' ' * 1000, 0)
    except OSError:
        pass
os._exit(1)"""
LINE = "    return a - b"
CHEATS = {
    "conftest that patches the reports": edit("conftest.py", "", PATCHES_PYTEST),
    "conftest beside the tests": edit("tests/conftest.py", "", PATCHES_PYTEST),
    "conftest that skips all": edit("conftest.py", "", "def pytest_collection_modifyitems(items): items.clear()"),
    "source that patches pytest": edit(
        "pkg/calc.py", "    return a - b", "    return a - b\n\n\n" + PATCHES_REPORTS.rstrip()
    ),
    "sitecustomize": edit("sitecustomize.py", "", PATCHES_REPORTS),
    "usercustomize": edit("usercustomize.py", "", "import os; os._exit(0)"),
    "a path file": edit("evil.pth", "", "import os; os._exit(0)"),
    "a pytest of its own": edit("pytest.py", "", "def main(*args, **named): return 1\nclass Item: pass\n"),
    "pytest.ini": edit("pytest.ini", "", "[pytest]\naddopts = -p evil") + edit("evil.py", "", PATCHES_PYTEST),
    "pyproject.toml": edit("pyproject.toml", "", '[tool.pytest.ini_options]\naddopts = "-p evil"')
    + edit("evil.py", "", PATCHES_PYTEST),
    "sys.exit at import": edit("pkg/__init__.py", "", "import sys; sys.exit(0)"),
    "os._exit at import": edit("pkg/__init__.py", "", "import os; os._exit(0)"),
    "os._exit 1 at import": edit("pkg/__init__.py", "", "import os; os._exit(1)"),
    "forged output": edit("pkg/__init__.py", "", PRINTS),
    "forged output, and an end": edit(
        "pkg/__init__.py", "", PRINTS + "\nimport os, sys; sys.stdout.flush(); os._exit(0)"
    ),
    "forged reports": edit("pkg/__init__.py", "", FORGES),
    "forged reports, and an end": edit("pkg/__init__.py", "", FORGES + "\nos._exit(1)"),
    "cuts the reports short": edit("pkg/__init__.py", "", CUTS),
    "writes over the reports": edit("pkg/__init__.py", "", OVERWRITES),
    "says that the sandbox failed": edit("pkg/__init__.py", "", "import os; os.write(2, b'bwrap: no'); os._exit(1)"),
    "skips from source": edit("pkg/calc.py", "    return a - b", "    import pytest; pytest.skip('no')"),
    "its own tests": edit("tests/test_calc.py", "", "def test_add(): pass"),
    "equals everything": edit(
        "pkg/calc.py", "    return a - b", "    return a - b\n\n\nimport builtins\nbuiltins.AssertionError = ValueError"
    ),
    "atexit": edit("pkg/__init__.py", "", "import atexit, os\natexit.register(lambda: os._exit(0))"),
    "sleeps": edit("pkg/__init__.py", "", "import time; time.sleep(100)"),
    "broken Python": edit("pkg/calc.py", "    return a - b", "    return a +"),
}


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_is_paid(name: str) -> None:
    info = {**INFO, "PASS_TO_PASS": PASSES[:1]}  # statuses that no forgery gives would hide it
    score = grade(CHEATS[name], info, SweTests(timeout_s=8.0, credit="share"))
    assert score.value == 0.0, f"{name}: {score.reason}"
    assert score.verdict in ("wrong", "unparsable")


def test_what_configures_tests_may_change_where_the_reference_changes_it() -> None:
    """A repair with such a file is paid, and the file of the reference's own kind reaches the tests."""
    configured = edit("pytest.ini", "", "[pytest]\naddopts = --strict-config")
    assert grade(RIGHT + configured).verdict == "correct"
    broken = edit("pytest.ini", "", "[pytest]\naddopts = --no-such-option")
    assert grade(RIGHT + broken).verdict == "correct", "left out: the reference has no such change"
    patch = "--- /dev/null\n+++ b/pytest.ini\n@@ -0,0 +1 @@\n+[pytest]\n--- a/pkg/calc.py\n+++ b/pkg/calc.py\n"
    patch += "@@ -1,3 +1,3 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n \n"
    assert grade(RIGHT + broken, {**INFO, "patch": patch}).verdict == "wrong"


def test_unittest() -> None:
    tests = "import unittest\nfrom pkg.calc import add\nclass T(unittest.TestCase):\n    def test_add(self):\n"
    tests += (
        "        self.assertEqual(add(2, 3), 5)\n    def test_zero(self):\n        self.assertEqual(add(2, 0), 2)\n"
    )
    info = {
        "files": FILES,
        "test_files": {"test_it.py": tests},
        "test_runner": "unittest",
        "FAIL_TO_PASS": ["test_it.T.test_add"],
        "PASS_TO_PASS": '["test_zero (test_it.T)"]',  # as JSON, and as old logs name it
    }
    assert grade(RIGHT, info).verdict == "correct"
    assert grade(WRONG, info).verdict == "wrong"
    for source in ("import os; os._exit(0)", "import unittest; unittest.TestCase.run = lambda *a, **k: None"):
        assert grade(edit("pkg/__init__.py", "", source), info).value == 0.0


def test_broken_problems_are_no_fault_of_the_answer() -> None:
    with pytest.raises(DataError, match="neither `base_commit`"):
        grade(RIGHT, {"FAIL_TO_PASS": FAILS})
    with pytest.raises(DataError, match="no tests"):
        grade(RIGHT, {"files": FILES, "FAIL_TO_PASS": FAILS})
    with pytest.raises(DataError, match="does not fit"):
        grade(RIGHT, {**INFO, "test_patch": "--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-a\n+b\n"})
    with pytest.raises(DataError, match="no clone of 'a/b'"):
        grade(RIGHT, {**INFO, "repo": "a/b", "base_commit": "0" * 40})


def test_time_is_compared_with_the_graders() -> None:
    with GradingPool(1, 5.0) as pool, pytest.raises(RewardError, match="do not fit"):
        REWARD.as_group_reward(pool)
    with pytest.raises(ValueError, match="root of their own"):
        SweTests(min_level="uid")


def test_logs_are_kept(tmp_path: Path) -> None:
    assert grade(WRONG, reward=SweTests(timeout_s=60.0, logs=str(tmp_path))).value == 0.0
    (log,) = tmp_path.glob("p.*.log")
    assert "assert add(2, 3) == 5" in log.read_text()
