"""The table in docs/games.md is that of benchmarks/games.json, and the benchmark measures what it says."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


def loaded(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{script}", ROOT / "benchmarks" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return loaded("games")


@pytest.mark.parametrize("script", ["games", "games_bc"])
def test_the_tables_are_those_of_the_figures(script: str) -> None:
    rows = json.loads((ROOT / "benchmarks" / f"{script}.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "games.md").read_text(encoding="utf-8")
    assert "\n".join(loaded(script).table(rows)) in page


def test_every_game_has_figures(benchmark: ModuleType) -> None:
    rows = json.loads((ROOT / "benchmarks" / "games.json").read_text(encoding="utf-8"))
    assert [row["game"] for row in rows] == list(benchmark.GAMES)


def test_the_figures_of_every_start_of_the_maze(benchmark: ModuleType) -> None:
    figures = benchmark.measured("maze", 25)
    assert figures["oracle"]["return"]["value"] == pytest.approx(-6.84)
    assert figures["oracle"]["moves"] == pytest.approx(7.84)
    assert figures["oracle"]["won"] == 1.0
    assert figures["random"]["return"]["high"] < -70
