"""The list of planted errors: each can still be planted, and the documents show what has caught them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmark_modules import load

ROOT = Path(__file__).parents[2]
mutants, planting = load("mutants"), load("planting")
PLANTED = planting.errors()


def test_every_error_can_be_planted_into_the_tree_as_it_is() -> None:
    faults = []
    for error in PLANTED:
        try:
            error.planted((ROOT / error.file).read_text(encoding="utf-8"))
        except (ValueError, OSError) as fault:
            faults.append(str(fault))
    assert faults == []


def test_no_error_is_listed_twice_and_each_has_a_reason() -> None:
    assert len(set(PLANTED)) == len(PLANTED)
    assert all(error.why and error.old != error.new for error in PLANTED)
    assert len(PLANTED) >= 200
    assert sum(error.file.startswith(mutants.MATHEMATICS) for error in PLANTED) >= 90


def test_an_error_whose_text_is_gone_is_told_by_name() -> None:
    error = planting.PlantedError(file="llmrl/a.py", why="min for max", old="max(", new="min(")
    with pytest.raises(ValueError, match=r"llmrl/a.py: 'max\(' stands there 0 times; expected once \(min for max\)"):
        error.planted("x = min(1, 2)\n")
    with pytest.raises(ValueError, match="stands there 2 times"):
        error.planted("x = max(max(1, 2), 3)\n")
    with pytest.raises(ValueError, match="does not compile"):
        planting.PlantedError(file="llmrl/a.py", why="", old="(", new="((").planted("x = max(1, 2)\n")


def test_the_copy_has_the_error_for_a_while_and_the_text_and_its_time_again(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("x = max(1, 2)\n", encoding="utf-8")
    before = path.stat().st_mtime_ns
    with planting.in_place(planting.PlantedError(file="a.py", why="", old="max", new="min"), tmp_path):
        assert path.read_text(encoding="utf-8") == "x = min(1, 2)\n"
    assert path.read_text(encoding="utf-8") == "x = max(1, 2)\n"
    assert path.stat().st_mtime_ns == before


def test_what_is_nearest_by_imports_is_asked_first() -> None:
    tree = planting.Tree(ROOT)
    near = tree.distances("llmrl/ops/gae.py")
    assert near["llmrl/ops/tracks.py"] == near["tests/unit/ops/test_gae.py"] == 1
    assert near["llmrl/algorithms/bcoder.py"] == 2
    first, second, *_ = tree.stages("llmrl/ops/gae.py")["near"]
    assert first == ["tests/unit/ops/test_gae.py"]
    assert "tests/unit/ops/test_turns.py" in second
    assert tree.distances("llmrl/offline/returns.py")["tests/unit/sources/test_returns.py"] == 2, "by its mirror's name"
    assert tree.stages("rewards/mix.py")["near"][0] == ["tests/unit/rewards/test_mix.py"]


def test_a_second_run_asks_only_what_is_not_known() -> None:
    asked = ["verify", "unit"]
    alive = {"verify": "", "test": "", "whole": "now", "looks": ["verify"]}
    assert mutants.still_asked(None, asked, "now") == asked
    assert mutants.still_asked(alive, asked, "now") == ["unit"]
    assert mutants.still_asked(alive, asked, "other code or tests") == asked
    assert mutants.still_asked({**alive, "verify": "grpo, oracle"}, asked, "other code or tests") == []


def test_the_page_has_the_table_of_the_figures() -> None:
    rows = json.loads((ROOT / "benchmarks" / "mutants.json").read_text(encoding="utf-8"))
    known = {(row["file"], row["old"], row["new"]): row for row in rows}
    assert known.keys() <= {(error.file, error.old, error.new) for error in PLANTED}, "run benchmarks/mutants.py again"
    page = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
    assert f"lists {len(PLANTED)} errors" in page
    assert mutants.table([(error, known.get((error.file, error.old, error.new))) for error in PLANTED]) in page


def test_an_error_is_alive_only_where_all_was_asked() -> None:
    row = {"verify": "", "test": "", "looks": [*mutants.VERIFY]}
    assert mutants.state_of(row) == mutants.state_of(None) == "open"
    assert mutants.state_of({**row, "looks": [*mutants.VERIFY, "near", "unit"]}) == "alive"
    assert mutants.state_of({**row, "test": "tests/unit/ops/test_gae.py::test"}) == "tests"
    assert mutants.state_of({**row, "verify": "grpo, oracle", "looks": ["cases"]}) == "verify"


def test_the_list_is_spread_over_the_files() -> None:
    files = Counter(error.file for error in PLANTED)
    assert max(files.values()) <= 15, files.most_common(3)


def test_a_test_that_fails_anyway_is_left_out_from_its_file_on() -> None:
    files = ["tests/unit/a.py", "tests/unit/b.py", "tests/unit/c.py"]
    assert planting.from_file(files, "tests/unit/b.py::test[x::y]") == files[1:]
    assert planting.from_file(files, "pytest ended with 3") == files
