"""Add the tests that judge a repair to rows of software engineering, by running them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmrl.datafiles.rows import Row, file_rows
from llmrl.errors import DataError
from llmrl.swe.instance import Instance
from llmrl.swe.testing import TestBed
from llmrl.swe.validate import outcomes
from llmrl.types import Problem

log = logging.getLogger(__name__)


def write(rows: Path, out: Path, bed: TestBed, runs: int = 2, workers: int = 2) -> Mapping[str, int]:
    """Write the rows whose tests tell the reference from none, with FAIL_TO_PASS and PASS_TO_PASS; return counts.

    Raises:
        DataError: the rows cannot be read, or the file is there, or cannot be written.
        SandboxError: tests cannot be run here.
    """
    bed.options().sandbox.in_force()
    source = file_rows(rows)
    counts: Counter[str] = Counter()
    try:
        with open(out, "x", encoding="utf-8") as file, ThreadPoolExecutor(workers) as pool:
            for line, reason in pool.map(lambda row: _line(row, bed, runs), source):
                counts[reason] += 1
                if line is not None:
                    file.write(json.dumps(line) + "\n")
    except FileExistsError:
        raise DataError(f"{out}: is there already; choose another --out, or remove it") from None
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}; choose another --out") from None
    return counts


def _line(row: Row, bed: TestBed, runs: int) -> tuple[dict[str, object] | None, str]:
    """The row with its tests, or the reason why it has none."""
    name = str(row.values.get("instance_id") or row.values.get("id") or row.where)
    try:
        instance = Instance.of(Problem(id=name, messages=(), info=row.values))
        found = outcomes(bed, instance, runs)
    except DataError as error:
        log.warning("%s: left out: %s", row.where, error)
        return None, "tests do not run"
    if not found.fail_to_pass:
        return None, "no test tells the repair from none"
    return {**row.values, "FAIL_TO_PASS": found.fail_to_pass, "PASS_TO_PASS": found.pass_to_pass}, "kept"
