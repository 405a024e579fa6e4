"""Statuses of tests read from a log, and if they are a repair; the case `swe_grading` has the rule itself."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from llmrl.swe.grading import Status, is_cut_off, repair, status_of
from llmrl.swe.logs import read_log
from tests.builders import some
from tests.swe_files import rows

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
    for report in some(sorted((shared_data / "swe_smith_logs").glob("*/report.json"))):
        theirs = json.loads(report.read_text())
        tests = {kind: [*found["success"], *found["failure"]] for kind, found in theirs["tests_status"].items()}
        statuses = read_log((report.parent / "test_output.txt").read_text())
        ours = repair(statuses, tests["FAIL_TO_PASS"], tests["PASS_TO_PASS"])
        assert ours.resolved == theirs["resolved"]
        shares = [theirs["tests_status"][kind]["success"] for kind in ("FAIL_TO_PASS", "PASS_TO_PASS")]
        assert ours.f2p_rate * len(tests["FAIL_TO_PASS"]) == pytest.approx(len(shares[0]))
        assert ours.p2p_rate * len(tests["PASS_TO_PASS"]) == pytest.approx(len(shares[1]))


@pytest.mark.parametrize(
    ("f2p", "p2p", "resolution"),
    [
        (["a", "b"], ["c"], "full"),
        (["a", "x"], ["c"], "partial"),
        (["a", "x"], ["c", "x"], "no"),
        (["x"], ["c"], "no"),
        (["a"], ["x"], "no"),
    ],
)
def test_a_part_of_the_repair_is_partial_where_nothing_broke(f2p: list[str], p2p: list[str], resolution: str) -> None:
    assert repair(dict.fromkeys("abc", "PASSED"), f2p, p2p).resolution == resolution


STATUSES: dict[str, Status] = {
    "a.py::t[x 1]": "PASSED",
    "a.py::t[x 2]": "XFAIL",
    "a.py::u[x 1]": "PASSED",
    "a.py::u[x 2]": "FAILED",
    "a.py::v[x 1]": "SKIPPED",
    "a.py::w[x": "PASSED",
    "a.py::w[x 1]": "FAILED",
}


@pytest.mark.parametrize(
    ("test", "status"),
    [
        ("a.py::t[x", "PASSED"),
        ("a.py::u[x", None),  # they disagree
        ("a.py::v[x", "SKIPPED"),
        ("a.py::w[x", "PASSED"),  # it stands there itself
        ("a.py::t[y", None),
        ("a.py::t", None),  # nothing was cut off
        ("a.py::t[x 1]", "PASSED"),
    ],
)
def test_a_name_that_was_cut_off_stands_for_all_that_begin_with_it(test: str, status: Status | None) -> None:
    assert status_of(test, STATUSES) == status


def test_gold_resolves_instances_with_names_that_were_cut_off_and_nothing_else_does(shared_data: Path) -> None:
    """28 instances of Lite and 16 of Verified, by logs with whole names as pytest sums them up."""
    counts = []
    for name in ("lite", "verified"):
        cut = [row for row in rows(shared_data, name) if any(map(is_cut_off, _tests(row)))]
        counts.append(len(cut))
        for row in cut:
            f2p, p2p, repo = row["FAIL_TO_PASS"], row["PASS_TO_PASS"], row["repo"]
            readers = [repo] + [""] * all(
                "::" in test for test in _tests(row)
            )  # some names are a line's rest: `[100%]`
            for reader in readers:
                gold, empty = (read_log(_log(row, how), reader) for how in ("PASSED", "FAILED"))
                assert repair(gold, f2p, p2p).resolved, row["instance_id"]
                assert not repair(empty, f2p, p2p).resolved
                assert not repair({}, f2p, p2p).resolved
    assert counts == [28, 16]


def _tests(row: dict[str, Any]) -> list[str]:
    return [*(row["FAIL_TO_PASS"] or ()), *(row["PASS_TO_PASS"] or ())]


def _log(row: dict[str, Any], how: str) -> str:
    """Summary of pytest -rA; tests that must begin to pass have the status `how`."""
    lines = []
    for kind, status in (("PASS_TO_PASS", "PASSED"), ("FAIL_TO_PASS", how)):
        whole = [test + " rest]" * is_cut_off(test) for test in row[kind]]
        lines += [f"{status} {test}{' - x' if status == 'FAILED' else ''}" for test in whole]
    return "\n".join(lines)


def test_the_package_resolves_the_same() -> None:
    grading = pytest.importorskip("swebench.harness.grading", exc_type=ImportError)
    draws = random.Random(0)
    names = [f"a.py::{test}[{value} {more}]" for test in "tu" for value in "xy" for more in "12"]
    asked = [*names, "a.py::t[x", "a.py::u[y", "a.py::t", "a.py::u[x 1"]
    seen = set()
    for _ in range(1500):
        weights = draws.choice([(20, 1, 1, 1, 1), (1, 1, 1, 1, 1)])
        kinds: list[Status] = draws.choices(["PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL"], weights, k=len(names))
        statuses = {name: kind for name, kind in zip(names, kinds, strict=True) if draws.random() < 0.9}
        f2p, p2p = (draws.sample(asked, draws.randint(1, 3)) for _ in range(2))
        report = grading.get_eval_tests_report(statuses, {"FAIL_TO_PASS": f2p, "PASS_TO_PASS": p2p})
        theirs = grading.get_resolution_status(report).removeprefix("RESOLVED_").lower()
        assert repair(statuses, f2p, p2p).resolution == theirs, (statuses, f2p, p2p)
        seen.add(theirs)
    assert seen == {"full", "partial", "no"}
