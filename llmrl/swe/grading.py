"""Decides by the outcome of tests if a change repairs a repository: the rules of SWE-bench's grader."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS"]
Resolution = Literal["full", "partial", "no"]
PASSED = frozenset({"PASSED", "XFAIL"})
STILL_PASSED = PASSED | {"SKIPPED"}
_ORDER: tuple[Status, ...] = ("XPASS", "SKIPPED", "PASSED", "XFAIL", "ERROR", "FAILED")
"""Statuses as `pytest -rA` sums them up; it names no test that was skipped, and the grader knows no XPASS."""


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
    pass may not be skipped. A name that was cut off within its brackets stands for all tests that begin with it: see
    `status_of`. Source: the grading of SWE-bench (Jimenez et al. 2024, arXiv 2310.06770).

    Raises:
        ValueError: no test has to begin to pass, so any change would do.
    """
    if not fail_to_pass:
        raise ValueError("no test that the change must repair; expected at least one in FAIL_TO_PASS")
    starts = _by_start(statuses) if any(map(is_cut_off, (*fail_to_pass, *pass_to_pass))) else {}
    f2p_rate = _share(statuses, starts, fail_to_pass, PASSED)
    p2p_rate = _share(statuses, starts, pass_to_pass, STILL_PASSED) if pass_to_pass else 1.0
    return Repair(f2p_rate == 1.0 and p2p_rate == 1.0, f2p_rate, p2p_rate)


def is_cut_off(test: str) -> bool:
    """Recognise the name of a pytest test that ends at the first blank within its brackets: `a.py::test_b[x`.

    SWE-bench's lists have such names, for its reader of logs ends a name at a blank.
    """
    return "::" in test and "[" in test and not test.endswith("]") and len(test.split()) == 1


def status_of(test: str, statuses: Mapping[str, Status]) -> Status | None:
    """Status of a test; of one whose name was cut off, that of the tests `name ...]`; None where none ran.

    Of several the worst counts. So it is for the official grader: the last line of the log decides there, and pytest
    sums up failures last.
    """
    if test in statuses or not is_cut_off(test):
        return statuses.get(test)
    return _by_start(statuses).get(test)


def _by_start(statuses: Mapping[str, Status]) -> dict[str, Status]:
    """Worst status of the tests that share their name up to the first blank."""
    starts: dict[str, Status] = {}
    for test, status in statuses.items():
        start = test.split(maxsplit=1)[0] if test.strip() else test
        starts[start] = max(status, starts.get(start, status), key=_ORDER.index)
    return starts


def _share(
    statuses: Mapping[str, Status], starts: Mapping[str, Status], tests: Collection[str], good: Collection[str]
) -> float:
    found = (statuses.get(test) or (starts.get(test) if is_cut_off(test) else None) for test in tests)
    return sum(status in good for status in found) / len(tests)
