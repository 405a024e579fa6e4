"""Statuses of tests read from a log, and if they are a repair; the case `swe_grading` has the rule itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.swe.grading import repair
from llmrl.swe.logs import read_log

LOG = """\
+ : '>>>>> Start Test Output'
tests/test_a.py::test_one PASSED                                 [ 25%]
tests/test_a.py::test_two[a b - c] FAILED                        [ 50%]
tests/test_a.py::test_three SKIPPED (no network)                 [ 75%]
tests/test_a.py::test_four XFAIL (it rains)                      [100%]
PASSED tests/test_b.py::test_five[x - y]
ERROR tests/test_a.py::test_one - OSError: it - broke
FAILED (a line of the program's)
+ : '>>>>> End Test Output'
tests/test_a.py::test_six PASSED
"""


def test_a_log_is_read_between_its_marks() -> None:
    assert read_log(LOG) == {
        "tests/test_a.py::test_one": "ERROR",
        "tests/test_a.py::test_two[a b - c]": "FAILED",
        "tests/test_a.py::test_three": "SKIPPED",
        "tests/test_a.py::test_four": "XFAIL",
        "tests/test_b.py::test_five[x - y]": "PASSED",
    }


def test_a_log_without_marks_is_read_whole() -> None:
    assert read_log("PASSED a.py::b\n12 passed in 0.1s\n") == {"a.py::b": "PASSED"}


def test_without_a_test_to_repair_nothing_is_a_repair() -> None:
    with pytest.raises(ValueError, match="at least one in FAIL_TO_PASS"):
        repair({"a": "PASSED"}, [], ["a"])


def test_logs_of_others_have_the_verdicts_of_their_grader(shared_data: Path) -> None:
    for report in sorted((shared_data / "swe_smith_logs").glob("*/report.json")):
        theirs = json.loads(report.read_text())
        tests = {kind: [*found["success"], *found["failure"]] for kind, found in theirs["tests_status"].items()}
        statuses = read_log((report.parent / "test_output.txt").read_text())
        ours = repair(statuses, tests["FAIL_TO_PASS"], tests["PASS_TO_PASS"])
        assert ours.resolved == theirs["resolved"]
        shares = [theirs["tests_status"][kind]["success"] for kind in ("FAIL_TO_PASS", "PASS_TO_PASS")]
        assert ours.f2p_rate * len(tests["FAIL_TO_PASS"]) == pytest.approx(len(shares[0]))
        assert ours.p2p_rate * len(tests["PASS_TO_PASS"]) == pytest.approx(len(shares[1]))
