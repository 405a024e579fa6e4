"""The score of a repair, from the results of its tests."""

from __future__ import annotations

from typing import Literal

from llmrl.swe.grading import repair
from llmrl.swe.instance import Instance
from llmrl.swe.testing import TestRun
from llmrl.types import Score

Credit = Literal["all", "share"]
"""Value of a repair: `all`: 1 if it resolves the instance; `share`: the share of FAIL_TO_PASS that passes, while all of
PASS_TO_PASS does."""


def judged(instance: Instance, tested: TestRun, credit: Credit) -> Score:
    """Judge a run of tests by SWE-bench's rules; in a void run no test has passed.

    Raises:
        ValueError: the instance has no test that must begin to pass.
    """
    statuses = {} if tested.fault else tested.statuses
    result = repair(statuses, instance.fail_to_pass, instance.pass_to_pass)
    share = result.f2p_rate if result.p2p_rate == 1.0 else 0.0
    parts = {"applied": 1.0, "fail_to_pass": result.f2p_rate, "pass_to_pass": result.p2p_rate}
    told = f"{result.f2p_rate:.0%} of {len(instance.fail_to_pass)} tests that must begin to pass"
    told += f", {result.p2p_rate:.0%} of {len(instance.pass_to_pass)} that must go on"
    value = float(result.resolved) if credit == "all" else share
    return Score(value, "correct" if result.resolved else "wrong", parts, reason=tested.fault or told)
