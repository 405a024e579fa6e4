"""The table in docs/algorithms/webrl.md is that of docs/results/webrl.json, and its means are of what was played."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_webrl", ROOT / "benchmarks" / "webrl.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_the_runs(benchmark: Any) -> None:
    kept = json.loads((ROOT / "docs/results/webrl.json").read_text(encoding="utf-8"))
    rows = benchmark.summary(kept["runs"])
    assert rows == kept["summary"]
    assert "\n".join(benchmark.table(rows)) in (ROOT / "docs/algorithms/webrl.md").read_text(encoding="utf-8")


def test_pages_are_averaged_over_seeds(benchmark: Any) -> None:
    """Three quarters of a page's episodes are solved in the end, half of them at the start, in each page alike."""
    pages = [f"miniwob/{task}/{seed}" for task in benchmark.TASKS for seed in range(2)]
    none, all_, half = dict.fromkeys(pages, 0.0), dict.fromkeys(pages, 1.0), dict.fromkeys(pages, 0.5)
    rows = benchmark.summary([{"solved": {"start": none, "phase1": half}}, {"solved": {"start": all_, "phase1": all_}}])
    assert rows["start"]["seeds"] == [0.0, 1.0]
    assert rows["phase1"]["success"] == {"value": 0.75, "low": 0.75, "high": 0.75}
    assert rows["phase1"]["gain"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    assert rows["phase1"]["tasks"] == dict.fromkeys(benchmark.TASKS, 0.75)
