"""The table in docs/games.md is that of benchmarks/games.json, and the benchmark measures what it says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_games", ROOT / "benchmarks" / "games.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_the_figures(benchmark: ModuleType) -> None:
    rows = json.loads((ROOT / "benchmarks" / "games.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "games.md").read_text(encoding="utf-8")
    assert [row["game"] for row in rows] == list(benchmark.GAMES)
    assert "\n".join(benchmark.table(rows)) in page


def test_the_figures_of_every_start_of_the_maze(benchmark: ModuleType) -> None:
    figures = benchmark.measured("maze", 25)
    assert figures["oracle"]["return"]["value"] == pytest.approx(-6.84)
    assert figures["oracle"]["moves"] == pytest.approx(7.84)
    assert figures["oracle"]["won"] == 1.0
    assert figures["random"]["return"]["high"] < -70
