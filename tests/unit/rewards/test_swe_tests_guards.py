"""The reward by a project's tests: repairs that change what tests are, read or are run by; and faults that are ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import RewardError
from llmrl.rewards.swe_tests import SweTests
from llmrl.swe.guard import is_guarded
from llmrl.types import Problem, Score

CALC = "def add(a, b):\n    return a - b\n"
TEST = "from pkg.calc import add\n\ndef test_add():\n    assert add(2, 3) == 5\n"
UNIT = "import unittest\nfrom pkg.calc import add\nclass T(unittest.TestCase):\n    def test_add(self):\n"
UNIT += "        self.assertEqual(add(2, 3), 5)\n"
EMPTY = "import unittest\nclass T(unittest.TestCase):\n    def test_add(self): pass\n"
PLUGIN = "def pytest_pyfunc_call(pyfuncitem): return True\npytest_pyfunc_call.tryfirst = True\n"
ENTRY = "[pytest11]\nevil = evil\n"


def patch(changes: dict[str, tuple[str, str]]) -> str:
    """A unified diff that replaces whole files; the old text "" makes one."""
    made = []
    for path, (old, new) in changes.items():
        lines = [*(f"-{line}" for line in old.splitlines()), *(f"+{line}" for line in new.splitlines())]
        start = f"--- {'a/' + path if old else '/dev/null'}\n+++ b/{path}\n"
        sizes = f"-{1 if old else 0},{len(old.splitlines())} +1,{len(new.splitlines())}"
        made.append(f"{start}@@ {sizes} @@\n" + "\n".join(lines) + "\n")
    return "".join(made)


def new(**texts: str) -> str:
    return patch({path: ("", text) for path, text in texts.items()})


def source(text: str) -> str:
    return patch({"pkg/calc.py": (CALC, CALC + text + "\n")})


def grade(
    answer: str, test: str = TEST, place: str = "tests/test_calc.py", reward: SweTests | None = None, **more: Any
) -> Score:
    name = place.removesuffix(".py").replace("/", ".")
    unit = test == UNIT and "test_runner" not in more
    info = {
        "files": {"pkg/__init__.py": "", "pkg/calc.py": CALC, **more.pop("files", {})},
        "test_files": {place: test},
        "test_runner": "unittest" if unit else "pytest",
        "FAIL_TO_PASS": [f"{name}.T.test_add" if unit else f"{place}::{'T::' if test == UNIT else ''}test_add"],
        **more,
    }
    reward = reward or SweTests(timeout_s=60.0, form="diff")
    return reward(Problem(id="p", messages=(), info=info), answer)


RIGHT = patch({"pkg/calc.py": (CALC, CALC.replace("-", "+"))})
HELPER = {"tests/__init__.py": "", "tests/helper.py": "def same(a, b):\n    assert a == b\n"}
HELPED = "from pkg.calc import add\nfrom tests.helper import same\n\ndef test_add():\n    same(add(2, 3), 5)\n"
DATA = TEST.replace("== 5", "== int(open('tests/five.txt').read())")
FRACTION = "from fractions import Fraction\n" + TEST.replace("add(2, 3)", "Fraction(add(2, 3))")
ALIKE = "class Fraction:\n    def __init__(self, *a): pass\n    def __eq__(self, other): return True\n"
OVERWRITES = f"open('/testbed/tests/test_calc.py', 'w').write('def test_add(): pass')\n{CALC}"
RAISES = "import pytest\nfrom pkg.calc import add\n\ndef test_add():\n    with pytest.raises(ValueError): add(2, 3)\n"
CHEATS: dict[str, dict[str, Any]] = {
    "a test's own call": {"answer": source("import pytest\npytest.Function.runtest = lambda self: None")},
    "raises": {
        "answer": source("import pytest, contextlib\npytest.raises = lambda *a: contextlib.suppress(Exception)"),
        "test": RAISES,
    },
    "asserts of unittest": {
        "answer": source("import unittest\nunittest.TestCase.assertEqual = lambda *a: None"),
        "test": UNIT,
    },
    "asserts of unittest, by pytest": {
        "answer": source("import unittest\nunittest.TestCase.assertEqual = lambda *a: None"),
        "test": UNIT,
        "test_runner": "pytest",
    },
    "a plugin by dist-info": {
        "answer": new(
            **{
                "evil-1.dist-info/entry_points.txt": ENTRY,
                "evil-1.dist-info/METADATA": "Name: evil\nVersion: 1\n",
                "evil.py": PLUGIN,
            }
        )
    },
    "a plugin by egg-info": {
        "answer": new(
            **{
                "evil.egg-info/entry_points.txt": ENTRY,
                "evil.egg-info/PKG-INFO": "Name: evil\nVersion: 1\n",
                "evil.py": PLUGIN,
            }
        )
    },
    "pytest.toml": {"answer": new(**{"pytest.toml": '[pytest]\naddopts = ["-p", "evil"]\n', "evil.py": PLUGIN})},
    "a helper of the tests": {
        "answer": patch({"tests/helper.py": (HELPER["tests/helper.py"], "def same(a, b): pass\n")}),
        "test": HELPED,
        "files": HELPER,
    },
    "data of the tests": {
        "answer": patch({"tests/five.txt": ("5\n", "-1\n")}),
        "test": DATA,
        "files": {"tests/five.txt": "5\n"},
    },
    "a module of the standard library": {"answer": new(**{"fractions.py": ALIKE}), "test": FRACTION},
    "a package like the tests": {"answer": new(**{"t_calc/__init__.py": EMPTY}), "test": UNIT, "place": "t_calc.py"},
    "a folder above the tests": {
        "answer": new(**{"spec/__init__.py": "__path__ = ['/testbed/evil']\n", "evil/t_calc.py": EMPTY}),
        "test": UNIT,
        "place": "spec/t_calc.py",
    },
    "a module above the tests": {
        "answer": new(**{"spec.py": "__path__ = ['/testbed/evil']\n", "evil/t_calc.py": EMPTY}),
        "test": UNIT,
        "place": "spec/t_calc.py",
    },
    "a file of tests changed while they run": {
        "answer": patch({"pkg/calc.py": (CALC, OVERWRITES)}),
        "files": {"conftest.py": "import pkg.calc\n"},
    },
    "tests that are named": {
        "answer": patch({"tests/test_calc.py": (TEST, "def test_add(): pass\n")}),
        "files": {"tests/test_calc.py": TEST},
        "test_files": {},
        "test_arguments": ["tests/test_calc.py::test_add"],
    },
}


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_is_paid(name: str) -> None:
    score = grade(**CHEATS[name])
    assert (score.value, score.verdict) == (0.0, "wrong"), score.reason


@pytest.mark.parametrize("name", [name for name in CHEATS if name != "raises"])
def test_the_right_repair_of_each_is_paid(name: str) -> None:
    """The repair alone, on the same files: each problem can be solved."""
    assert grade(**{**CHEATS[name], "answer": RIGHT}).verdict == "correct"


def test_what_is_guarded() -> None:
    def guarded(path: str, reference: str = "") -> bool:
        files = {"pkg/calc.py", "json.py", "pkg.py"}
        return is_guarded(path, reference, files, ["pkg/tests/test_a.py", "spec/b.py"])

    for path in ("tests/data/x.json", "spec/b/__init__.py", "spec/b.abi3.so", "spec/__init__.py", "types.py"):
        assert guarded(path), path
    for path in ("pkg/calc.py", "pkg/types.py", "json.py", "pkg.py", "spec/a.py", "docs/tests.md", "new/b.py"):
        assert not guarded(path), path
    assert not guarded("tests/data/x.json", patch({"tests/data/x.json": ("1\n", "2\n")}))
    assert guarded("a.pth", patch({"a.pth": ("", "x\n")}))


def test_an_environment_without_the_framework_is_no_fault_of_the_answer(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True, timeout=120)
    reward = SweTests(timeout_s=60.0, form="diff", environment=str(tmp_path / "bare"))
    with pytest.raises(RewardError, match=r"did not start(?s:.*)No module named 'pytest'"):
        grade(RIGHT, reward=reward)
    assert grade(RIGHT, UNIT, "t_calc.py", reward).verdict == "correct"
