"""Decides by the outcome of tests if a change repairs a repository: the rules of SWE-bench's grader."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS"]
Resolution = Literal["full", "partial", "no"]
PASSED = frozenset({"PASSED", "XFAIL"})
STILL_PASSED = PASSED | {"SKIPPED"}


@dataclass(frozen=True, slots=True)
class Repair:
    """The outcome of the tests for a change."""

    resolved: bool
    f2p_rate: float  # of the tests that must begin to pass, the share that does, 0 to 1
    p2p_rate: float  # of those that must go on passing

    @property
    def resolution(self) -> Resolution:
        """`partial`: some tests began to pass, not all, and none broke."""
        if self.resolved:
            return "full"
        return "partial" if 0.0 < self.f2p_rate < 1.0 and self.p2p_rate == 1.0 else "no"


def repair(statuses: Mapping[str, Status], fail_to_pass: Collection[str], pass_to_pass: Collection[str] = ()) -> Repair:
    """Resolved if every test of `fail_to_pass` passed and every one of `pass_to_pass` passed or was skipped.

    An expected failure is a pass. A test that is missing did not run, and so did not pass; one that should begin to
    pass may not be skipped. Names that were cut off: see `status_of`. Source: the grader of SWE-bench (Jimenez et al.
    2024, arXiv 2310.06770), as of its package's version 5.0.2.

    Raises:
        ValueError: no test has to begin to pass, so any change would do.
    """
    if not fail_to_pass:
        raise ValueError("no test that the change must repair; expected at least one in FAIL_TO_PASS")
    f2p_rate = _share(statuses, fail_to_pass, PASSED)
    p2p_rate = _share(statuses, pass_to_pass, STILL_PASSED) if pass_to_pass else 1.0
    return Repair(f2p_rate == 1.0 and p2p_rate == 1.0, f2p_rate, p2p_rate)


def status_of(test: str, statuses: Mapping[str, Status]) -> Status | None:
    """Status of a test; None where it did not run.

    SWE-bench's lists have names that end at the first blank within their brackets (`a.py::test_b[x`). Such a one stands
    for all tests whose names begin with it, and has the status of the first of them where they all passed or none did;
    else it has none.
    """
    if test in statuses or not is_cut_off(test):
        return statuses.get(test)
    found = [status for name, status in statuses.items() if name.startswith(test)]
    return found[0] if len({status in PASSED for status in found}) == 1 else None


def is_cut_off(test: str) -> bool:
    """Recognise a name with a bracket that never closes."""
    return test.count("[") > test.count("]")


def _share(statuses: Mapping[str, Status], tests: Collection[str], good: Collection[str]) -> float:
    return sum(status_of(test, statuses) in good for test in tests) / len(tests)
