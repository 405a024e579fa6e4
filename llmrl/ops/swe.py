"""Decides by the outcome of tests if a change repairs a repository: the rule of SWE-bench."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS"]
PASSED = frozenset({"PASSED", "XFAIL"})
STILL_PASSED = PASSED | {"SKIPPED"}

_STATUS = "PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS"
_TEST = r"(\S+::[^\s\[]+(?:\[.*?\])?)"  # a path and names, and values in brackets
_BEHIND = re.compile(rf"{_TEST} ({_STATUS})(?: .*)?")  # as pytest -v writes while it runs
_BEFORE = re.compile(rf"({_STATUS}) {_TEST}(?: - .*)?")  # and as it sums up in the end
_LONGEST = 4096  # characters of a line that tells of a test
_START, _END = ">>>>> Start Test Output", ">>>>> End Test Output"


@dataclass(frozen=True, slots=True)
class Repair:
    """The outcome of the tests for a change."""

    resolved: bool
    f2p_rate: float  # of the tests that must begin to pass, the share that does, 0 to 1
    p2p_rate: float  # of those that must go on passing


def repair(statuses: Mapping[str, Status], fail_to_pass: Collection[str], pass_to_pass: Collection[str] = ()) -> Repair:
    """Resolved if every test of `fail_to_pass` passed and every one of `pass_to_pass` passed or was skipped.

    An expected failure is a pass. A test that is missing did not run, and so did not pass; one that should begin to
    pass may not be skipped. Source: the grading of SWE-bench (Jimenez et al. 2024, arXiv 2310.06770).

    Raises:
        ValueError: no test has to begin to pass, so any change would do.
    """
    if not fail_to_pass:
        raise ValueError("no test that the change must repair; expected at least one in FAIL_TO_PASS")
    f2p_rate = _share(statuses, fail_to_pass, PASSED)
    p2p_rate = _share(statuses, pass_to_pass, STILL_PASSED) if pass_to_pass else 1.0
    return Repair(f2p_rate == 1.0 and p2p_rate == 1.0, f2p_rate, p2p_rate)


def statuses_of(log: str) -> dict[str, Status]:
    """Read the status of each test from pytest's log (-v or -rA); between the harness's marks where there are any.

    A test that is told of twice, as one whose teardown broke, has the last status.
    """
    if _START in log:
        log = log.partition(_START)[2].partition(_END)[0]
    found: dict[str, Status] = {}
    for line in log.splitlines():
        if "::" not in line or len(line) > _LONGEST:  # of no test: a program's own output
            continue
        if match := _BEFORE.fullmatch(line):
            found[match[2]] = match[1]  # type: ignore[assignment]
        elif match := _BEHIND.fullmatch(line):
            found[match[1]] = match[2]  # type: ignore[assignment]
    return found


def _share(statuses: Mapping[str, Status], tests: Collection[str], good: Collection[str]) -> float:
    return sum(statuses.get(test) in good for test in tests) / len(tests)
