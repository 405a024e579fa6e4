"""The tests of an instance are proved to work here before an answer is called wrong."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from llmrl.errors import DataError
from llmrl.rewards.swe_tests import SweTests
from llmrl.types import Problem, Score

REWARD = SweTests(timeout_s=60.0)  # a machine may be busy
CODE = "{}\n\n\ndef add(a, b):\n    return a - b\n"
TESTS = "from calc import add\n\ndef test_add():\n    assert add(2, 3) == 5\n"
TESTS += "def test_zero():\n    assert add(2, 0) == 2\n"
ABSENT = "import a_package_that_nobody_has"
REFERENCE = {"calc.py": CODE.format(ABSENT).replace("a - b", "a + b")}


def grade(head: str, right: bool, **columns: Any) -> Score:
    info = {
        "files": {"calc.py": CODE.format(head)},
        "test_files": {"test_calc.py": TESTS},
        "FAIL_TO_PASS": ["test_calc.py::test_add"],
        **columns,
    }
    sign = "+" if right else "*"
    blocks = f"### calc.py\n<<<<<<< SEARCH\n    return a - b\n=======\n    return a {sign} b\n>>>>>>> REPLACE\n"
    return REWARD(Problem(id="p", messages=(), info=info), blocks)


def patch(sign: str, head: str = ABSENT) -> str:
    lines = f"@@ -1,5 +1,5 @@\n {head}\n \n \n def add(a, b):\n-    return a - b\n+    return a {sign} b\n"
    return f"--- a/calc.py\n+++ b/calc.py\n{lines}"


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize(
    "columns",
    [{"patch": patch("+")}, {"oracle_new": REFERENCE}, {"PASS_TO_PASS": ["test_calc.py::test_zero"]}],
    ids=["patch", "oracle_new", "pass_to_pass"],
)
def test_a_missing_package_is_no_fault_of_the_answer(columns: dict[str, Any], right: bool) -> None:
    with pytest.raises(DataError, match=r"instance p cannot be judged here: (?s:.*)a_package_that_nobody_has"):
        grade(ABSENT, right, **columns)


def test_a_reference_that_fails_or_does_not_apply_is_named() -> None:
    with pytest.raises(DataError, match="its own reference does not resolve it: its tests fail"):
        grade("import math", False, patch=patch("*", "import math"))
    with pytest.raises(DataError, match=r"its patch does not apply: calc\.py: hunk 1 of 1"):
        grade("import math", False, patch=patch("+", "import cmath").replace("a - b", "a / b"))


@pytest.mark.parametrize(
    "columns", [{"patch": patch("+", "import math")}, {"PASS_TO_PASS": ["test_calc.py::test_zero"]}, {}]
)
def test_where_tests_work_a_wrong_answer_is_wrong(columns: dict[str, Any]) -> None:
    assert grade("import math", False, **columns).verdict == "wrong"
    assert grade("import math", True, **columns).verdict == "correct"


def test_an_instance_that_nothing_can_prove_is_judged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a reference nor PASS_TO_PASS: a wrong answer may be this machine's fault, and somebody should know."""
    with caplog.at_level(logging.WARNING, logger="llmrl.swe.proof"):
        assert grade("import json", False).verdict == "wrong"
    assert [record.getMessage() for record in caplog.records] == [
        "instance p: no reference and no PASS_TO_PASS: nothing shows that its tests work here"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="llmrl.swe.proof"):
        assert grade("import json", False, PASS_TO_PASS=["test_calc.py::test_zero"]).verdict == "wrong"
        assert grade("import json", False, patch=patch("+", "import json")).verdict == "wrong"
    assert caplog.records == []


def test_the_reference_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    run = SweTests.run

    def counted(*arguments: Any) -> Any:
        runs.append(arguments)
        return run(*arguments)

    monkeypatch.setattr(SweTests, "run", counted)
    for answer in ("*", "/"):
        text = f"### calc.py\n<<<<<<< SEARCH\n    return a - b\n=======\n    return b {answer} a\n>>>>>>> REPLACE\n"
        info: dict[str, Any] = {"files": {"calc.py": CODE.format("import re")}, "test_files": {"test_calc.py": TESTS}}
        info |= {"FAIL_TO_PASS": ["test_calc.py::test_add"], "patch": patch("+", "import re")}
        assert REWARD(Problem(id="p", messages=(), info=info), text).verdict == "wrong"
    assert len(runs) == 3, "two answers, one reference"
