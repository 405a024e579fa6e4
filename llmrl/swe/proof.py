"""Prove that the tests of an instance can tell a repair from none on this machine, before an answer is called wrong."""

from __future__ import annotations

import logging

from llmrl.swe.clones import files_of
from llmrl.swe.grading import PASSED, repair, status_of
from llmrl.swe.instance import Instance
from llmrl.swe.patches import apply_patch
from llmrl.swe.testing import TestBed
from llmrl.swe.tree import ChangeError, Changes

log = logging.getLogger(__name__)


def doubt(bed: TestBed, instance: Instance) -> str:
    """Say why no answer can be judged here, as where the environment lacks what the project imports; "" where one can.

    The reference must resolve the instance. Where there is none, a test of PASS_TO_PASS must pass in the files as they
    are. An instance with neither cannot be proved, and is not doubted.
    """
    try:
        reference = _reference(bed, instance)
    except ChangeError as error:
        return f"its patch does not apply: {error}"
    if reference is None and not instance.pass_to_pass:
        log.warning(
            "instance %s: no reference and no PASS_TO_PASS: nothing shows that its tests work here", instance.id
        )
        return ""
    tested = bed.run(instance, reference or {})
    statuses = {} if tested.fault else tested.statuses
    told = f"{tested.fault or 'its tests fail'}; the end of their output: {tested.log.strip()[-400:]!r}"
    if reference is None:
        passed = any(status_of(test, statuses) in PASSED for test in instance.pass_to_pass)
        return "" if passed else f"no test of PASS_TO_PASS passes before any repair: {told}"
    resolved = repair(statuses, instance.fail_to_pass, instance.pass_to_pass).resolved
    return "" if resolved else f"its own reference does not resolve it: {told}"


def _reference(bed: TestBed, instance: Instance) -> Changes | None:
    """Changes of the reference; None where the instance has none."""
    if instance.patch.strip():
        return apply_patch(files_of(instance, bed.repos), instance.patch)
    return {path: text or None for path, text in instance.oracle.items()} or None
