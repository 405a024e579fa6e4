from __future__ import annotations

from pathlib import Path

import pytest

from llmrl.view import evaluations
from llmrl.view.runs import RunView
from tests.view_runs import write_evaluation, write_run

BEFORE = [True, True, False, False, True]
AFTER = [True, False, True, False]


@pytest.fixture
def run(tmp_path: Path) -> RunView:
    folder = write_run(tmp_path / "run", steps=1)
    write_evaluation(folder / "eval" / "step-000000", BEFORE)
    write_evaluation(folder / "eval" / "step-000020", AFTER)
    return RunView(folder, "run")


def test_evaluations_are_found_in_their_order(run: RunView) -> None:
    found = evaluations.found(run)
    assert [(each["folder"], each["label"]) for each in found] == [
        ("eval/step-000000", "after 0 steps"),
        ("eval/step-000020", "after 20 steps"),
    ]
    assert found[1]["benchmarks"]["sums"]["metrics"]["avg@1"]["value"] == 0.5


@pytest.mark.parametrize(("change", "number"), [("both", 0), ("lost", 1), ("won", 2), ("neither", 3)])
def test_problems_are_told_by_what_became_of_them(change: evaluations.Change, number: int, run: RunView) -> None:
    files = [evaluations.file_of(run, f"eval/step-{step:06d}", "sums") for step in (0, 20)]
    assert files[0] is not None
    assert files[1] is not None
    found = evaluations.compared(files[0], files[1], change)
    assert found["counts"] == {"lost": 1, "won": 1, "both": 1, "neither": 1}
    assert found["only"] == {"before": 1, "after": 0}
    (row,) = found["rows"]
    assert row["problem"] == f"sums/{number}"
    assert (row["before"]["verdict"] == "correct", row["after"]["verdict"] == "correct") == (
        BEFORE[number],
        AFTER[number],
    )


def test_what_nobody_could_judge_counts_for_nothing(run: RunView) -> None:
    path = run.folder / "eval" / "step-000020" / "sums.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"verdict": "wrong"', '"verdict": "error"')
    lines[2] = "{broken"
    path.write_text("\n".join(lines) + "\n")
    found = evaluations.compared(run.folder / "eval" / "step-000000" / "sums.jsonl", path, "lost")
    assert found["counts"] == {"lost": 0, "won": 0, "both": 1, "neither": 1}


def test_files_elsewhere_are_no_evaluations(run: RunView, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "other", [True])
    for folder, benchmark in (
        ("../other", "sums"),
        (str(tmp_path / "other"), "sums"),
        ("eval/step-000000", "../step-000020/sums"),
        ("eval/step-000000", "nothing"),
        (".", "rollouts"),
        ("eval/step-000000\0", "sums"),
    ):
        assert evaluations.file_of(run, folder, benchmark) is None
