"""Find the tests that tell a repair from none: those that the reference makes pass, and those that pass all along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmrl.errors import DataError
from llmrl.swe.clones import files_of
from llmrl.swe.grading import PASSED, STILL_PASSED
from llmrl.swe.instance import Instance
from llmrl.swe.patches import apply_patch
from llmrl.swe.testing import TestBed, TestRun
from llmrl.swe.tree import ChangeError


@dataclass(frozen=True, slots=True)
class RepairTests:
    """Ids of the tests of an instance, sorted.

    Attributes:
        fail_to_pass: fail before the reference, and pass behind it.
        pass_to_pass: pass before and behind it.
        flaky: have several outcomes behind the reference, and are in neither.
    """

    fail_to_pass: Sequence[str]
    pass_to_pass: Sequence[str]
    flaky: Sequence[str] = field(default_factory=list)


def outcomes(bed: TestBed, instance: Instance, runs: int = 2) -> RepairTests:
    """Run the tests of an instance before its reference, and several times behind it.

    Args:
        runs: behind the reference; a test that does not always end alike is flaky.
    Raises:
        DataError: the reference does not apply, a run of tests is void behind it, or a limit ends that before it.
    """
    try:
        changes = apply_patch(files_of(instance, bed.repos), instance.patch)
    except ChangeError as error:
        raise DataError(f"instance {instance.id}: its patch does not apply: {error}") from None
    before = bed.run(instance, {})
    if before.cut:  # tests that were not reached would seem to begin to pass
        raise DataError(f"instance {instance.id}: the tests do not end before its patch: {before.fault}")
    behind = [bed.run(instance, changes) for _ in range(runs)]
    for run in behind:
        if run.fault:
            raise DataError(f"instance {instance.id}: the tests do not run behind its patch: {run.fault}")
    return compared(before, behind)


def compared(before: TestRun, behind: Sequence[TestRun]) -> RepairTests:
    """Compare the statuses; before the reference even a void run tells something: in it no test has passed."""
    statuses = {} if before.fault else before.statuses
    ends = {test: {run.statuses.get(test) for run in behind} for run in behind for test in run.statuses}
    flaky = sorted(test for test, found in ends.items() if len(found) > 1)
    steady = {test: next(iter(found)) for test, found in ends.items() if len(found) == 1}
    fails = sorted(test for test, end in steady.items() if end in PASSED and statuses.get(test) not in STILL_PASSED)
    passes = sorted(test for test, end in steady.items() if end in STILL_PASSED and statuses.get(test) in PASSED)
    return RepairTests(fails, passes, flaky)
