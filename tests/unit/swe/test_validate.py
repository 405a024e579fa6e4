"""Tests that tell a repair from none, found by running them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.datagen.swe_tests import write
from llmrl.errors import DataError
from llmrl.swe.instance import Instance
from llmrl.swe.testing import TestBed, TestRun
from llmrl.swe.validate import RepairTests, compared, outcomes
from llmrl.types import Problem
from tests import swe_calculator


def test_statuses_are_compared() -> None:
    before = TestRun({"a": "FAILED", "b": "PASSED", "c": "PASSED", "d": "SKIPPED", "e": "ERROR"})
    behind = {"a": "PASSED", "b": "PASSED", "c": "FAILED", "d": "PASSED", "e": "XFAIL", "f": "PASSED"}
    found = compared(before, [TestRun({**behind, "g": "PASSED"}), TestRun({**behind, "g": "FAILED"})])  # type: ignore[dict-item]
    assert found == RepairTests(["a", "e", "f"], ["b"], ["g"])
    assert compared(TestRun({"b": "PASSED"}, "void"), [TestRun({"b": "PASSED"})]) == RepairTests(["b"], [])


def test_by_running(tmp_path: Path) -> None:
    row = swe_calculator.made(tmp_path)
    bed = TestBed(repos=str(tmp_path), timeout_s=60.0)
    found = outcomes(bed, Instance.of(Problem(id="p", messages=(), info=row)), runs=1)
    assert found == RepairTests(["tests/test_calc.py::test_add"], ["tests/test_calc.py::test_neg"])
    with pytest.raises(DataError, match="does not apply"):
        outcomes(bed, Instance.of(Problem(id="p", messages=(), info={**row, "patch": row["test_patch"] * 2})))


def test_a_run_before_the_patch_that_a_limit_ends_tells_nothing() -> None:
    """`test_b` passes all along, and was not reached: nothing that must begin to pass."""
    info = {
        "files": {"calc.py": "A = 1\n"},
        "patch": "--- a/calc.py\n+++ b/calc.py\n@@ -1 +1 @@\n-A = 1\n+A = 2\n",
        "test_files": {
            "test_a.py": "import time, calc\ndef test_a(): calc.A == 2 or time.sleep(60)\ndef test_b(): pass\n"
        },
    }
    with pytest.raises(DataError, match="do not end before its patch: the tests took longer than 8 s"):
        outcomes(TestBed(timeout_s=8.0), Instance.of(Problem(id="p", messages=(), info=info)), runs=1)


def test_rows_get_their_tests(tmp_path: Path) -> None:
    row = swe_calculator.made(tmp_path)
    bare = {name: value for name, value in row.items() if "PASS" not in name}
    useless = {**bare, "instance_id": "b", "patch": "--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1\n"}
    broken = {**bare, "instance_id": "c", "test_patch": "nothing"}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (bare, useless, broken)))
    bed = TestBed(repos=str(tmp_path), timeout_s=60.0)
    counts = write(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", bed, runs=1)
    assert counts == {"kept": 1, "no test tells the repair from none": 1, "tests do not run": 1}
    (line,) = [json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert line == {
        **row,
        "FAIL_TO_PASS": json.loads(row["FAIL_TO_PASS"]),
        "PASS_TO_PASS": json.loads(row["PASS_TO_PASS"]),
    }
    with pytest.raises(DataError, match="is there already"):
        write(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", bed)
