"""The soak of benchmarks/grading_soak.py, of a few hundred gradings."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def grading_soak(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)  # workers take over the path
    monkeypatch.delitem(sys.modules, "grading_soak", raising=False)
    return importlib.import_module("grading_soak")


def test_graders_that_hang_or_crash_cost_only_their_own_items(grading_soak: Any) -> None:
    figures = grading_soak.soak(count=200, workers=2, timeout_s=1.0)
    assert figures["wrong"] == []
    assert figures["wrong_without_faults"] == []
    assert figures["verdicts"]["timeout"] == figures["faults"]["hang"] == 2
    assert figures["verdicts"]["error"] == sum(figures["faults"][kind] for kind in grading_soak.CRASHES) == 3
    assert figures["left_over"] == []
    assert figures["files_open"][1] <= figures["files_open"][0]
    assert figures["resident_mib"][-1] - figures["resident_mib"][0] < 10


def test_the_soak_sees_a_wrong_score_and_a_child(grading_soak: Any) -> None:
    items = grading_soak.items_of(200)
    expected, _ = grading_soak.plain(items)
    told = grading_soak.missed(items, expected, expected)
    assert len(told) == 5  # the items with faults have no score yet
    with subprocess.Popen(["sleep", "60"]) as process:
        assert any(child.startswith(f"{process.pid} ") for child in grading_soak.children())
        process.kill()
