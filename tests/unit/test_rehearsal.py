"""The table in docs/sources.md is that of docs/results/rehearsal.json."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmark_modules import load

ROOT = Path(__file__).parents[2]


def test_the_table_is_that_of_the_figures() -> None:
    rows = json.loads((ROOT / "docs" / "results" / "rehearsal.json").read_text(encoding="utf-8"))
    assert load("rehearsal").table(rows) in (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
