"""The table in docs/games.md is that of benchmarks/games.json, and the benchmark measures what it says."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.benchmark_modules import load

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load("games")


@pytest.mark.parametrize("script", ["games", "games_bc"])
def test_the_tables_are_those_of_the_figures(script: str) -> None:
    rows = json.loads((ROOT / "benchmarks" / f"{script}.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "games.md").read_text(encoding="utf-8")
    assert "\n".join(load(script).table(rows)) in page


def test_every_game_has_figures(benchmark: ModuleType) -> None:
    rows = json.loads((ROOT / "benchmarks" / "games.json").read_text(encoding="utf-8"))
    assert [row["game"] for row in rows] == list(benchmark.GAMES)


def test_the_figures_of_every_start_of_the_maze(benchmark: ModuleType) -> None:
    figures = benchmark.measured("maze", 25)
    assert figures["oracle"]["return"]["value"] == pytest.approx(-6.84)
    assert figures["oracle"]["moves"] == pytest.approx(7.84)
    assert figures["oracle"]["won"] == 1.0
    assert figures["random"]["return"]["high"] < -70
