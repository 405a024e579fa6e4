"""The table in docs/algorithms/webrl.md is that of docs/results/webrl.json, and its means are of what was played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark_modules import load

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def benchmark() -> Any:
    return load("webrl")


def test_the_table_is_that_of_the_runs(benchmark: Any) -> None:
    kept = json.loads((ROOT / "docs/results/webrl.json").read_text(encoding="utf-8"))
    assert benchmark.summary(kept["runs"]) == kept["summary"]
    assert benchmark.table(kept["runs"]) in (ROOT / "docs/algorithms/webrl.md").read_text(encoding="utf-8")


def test_pages_are_averaged_over_seeds(benchmark: Any) -> None:
    """Three quarters of a page's episodes are solved in the end, half of them at the start, in each page alike."""
    pages = [f"miniwob/{task}/{seed}" for task in benchmark.TASKS for seed in range(2)]
    none, all_, half = dict.fromkeys(pages, 0.0), dict.fromkeys(pages, 1.0), dict.fromkeys(pages, 0.5)
    rows = benchmark.summary([{"solved": {"start": none, "phase1": half}}, {"solved": {"start": all_, "phase1": all_}}])
    assert rows["start"]["seeds"] == [0.0, 1.0]
    assert rows["phase1"]["success"] == {"value": 0.75, "low": 0.75, "high": 0.75}
    assert rows["phase1"]["gain"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    assert rows["phase1"]["tasks"] == dict.fromkeys(benchmark.TASKS, 0.75)
