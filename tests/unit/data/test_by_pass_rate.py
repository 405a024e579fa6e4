"""Problems repeated by how often they were solved."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.data.by_pass_rate import ByPassRate
from llmrl.datafiles.pass_rates import pass_rates
from llmrl.errors import DataError, RecipeError
from llmrl.types import Problem


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(path)


def record(problem: str, right: bool | None, sample: int = 0) -> dict[str, Any]:
    value = None if right is None else float(right)
    verdict = {True: "correct", False: "wrong", None: "timeout"}[right]
    return {"problem": problem, "sample": sample, "verdict": verdict, "value": value}


def tried(problem: str, right: int, of: int) -> list[dict[str, Any]]:
    return [record(problem, i < right, i) for i in range(of)]


def read(folder: Path, rates: dict[str, tuple[int, int]], **options: Any) -> list[Problem]:
    """The problems of a file with these names, each solved so many times of so many."""
    source = write(folder / "p.jsonl", *({"id": name, "prompt": name, "answer": "4"} for name in rates))
    records = write(folder / "r.jsonl", *(row for name, rate in rates.items() for row in tried(name, *rate)))
    spec = {"name": "by_pass_rate", "of": {"name": "jsonl", "path": source}, "records": records, **options}
    return list(plugins.build("data", spec).problems())


def test_the_case_of_oreal(tmp_path: Path) -> None:
    # Rates 0, .19 | .2, .59 | .6, .79 | .8, 1: half-open bins.
    rates = dict(
        zip("abcdefgh", [(0, 100), (19, 100), (1, 5), (59, 100), (3, 5), (79, 100), (4, 5), (5, 5)], strict=True)
    )
    found = read(tmp_path, rates)
    counts = Counter(problem.id.split("#")[0] for problem in found)
    assert [counts[name] for name in rates] == [6, 6, 4, 4, 2, 2, 0, 0]
    assert len({problem.id for problem in found}) == len(found)
    assert [problem.id for problem in found[:8]] == ["a", "b", "c", "d", "e", "f", "a#2", "b#2"]
    assert found[6].messages == found[0].messages
    assert found == read(tmp_path, rates)


def test_bins_of_ones_own(tmp_path: Path) -> None:
    rates = {"a": (0, 4), "b": (1, 4), "c": (3, 4), "d": (4, 4)}
    assert [problem.id for problem in read(tmp_path, rates, repeats=[0, 1], below=1.0)] == ["c"]
    assert ByPassRate(of={}, records="", repeats=[1, 2, 3], below=0.3).times(Fraction("0.2")) == 3


def test_what_nobody_could_judge_does_not_count(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.jsonl", record("a", True), record("a", None, 1), record("a", False, 2), record("b", None)
    )
    assert pass_rates(Path(path)) == {"a": Fraction(1, 2)}


def test_problems_without_records(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no judged completion of 1 of 2 problems, the first 'b'.*llmrl eval"):
        read(tmp_path, {"a": (0, 4), "b": (0, 0)})
    assert {p.id.split("#")[0] for p in read(tmp_path, {"a": (0, 4), "b": (0, 0)}, missing="drop")} == {"a"}


def test_records_of_another_dataset_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", {"id": "a", "prompt": "2+2?"})
    records = write(tmp_path / "r.jsonl", record("x", True))
    spec = {"name": "by_pass_rate", "of": {"name": "jsonl", "path": source}, "records": records, "missing": "drop"}
    with pytest.raises(DataError, match="no judged completion of 1 of 1"):
        list(plugins.build("data", spec).problems())


def test_where_all_are_easy_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no problem has a pass rate below 0\.8; raise data\.below"):
        read(tmp_path, {"a": (4, 4)})


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"r\.jsonl:2: no record of an evaluation.*found problem, value"):
        pass_rates(Path(write(tmp_path / "r.jsonl", record("a", True), {"problem": "a", "value": 1.0})))
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        pass_rates(tmp_path / "none.jsonl")


@pytest.mark.parametrize("options", [{"repeats": []}, {"repeats": [0, 0]}, {"repeats": [-1, 2]}, {"below": 0}])
def test_odd_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(options))):
        plugins.build("data", {"name": "by_pass_rate", "of": {"name": "jsonl"}, "records": "r.jsonl", **options})
