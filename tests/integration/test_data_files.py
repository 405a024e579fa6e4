"""Every row of the real data sets is read, and what they share is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl import plugins
from llmrl.datagen.contamination import check

SIZES = {
    ("gsm8k", "train"): 7473,
    ("gsm8k", "test"): 1319,
    ("math", "train"): 7500,
    ("math", "test"): 5000,
    ("math500", "test"): 500,
    ("aime24", "test"): 30,
    ("aime25", "test"): 30,
    ("amc23", "test"): 40,
    ("countdown", "train"): 8001,
    ("countdown", "test"): 2001,
}


@pytest.fixture(autouse=True)
def data_folder(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMRL_DATA", str(shared_data))


@pytest.mark.parametrize(("name", "split"), SIZES)
def test_all_rows_are_problems(name: str, split: str) -> None:
    problems = list(plugins.build("data", {"name": name, "split": split}).problems())
    assert len(problems) == SIZES[name, split]
    assert all(problem.answer.strip() and problem.messages[-1]["content"].strip() for problem in problems)
    if name == "gsm8k":
        assert all(float(problem.answer) == int(float(problem.answer)) for problem in problems)
    if name.startswith("math"):
        assert all(problem.info["subject"] and 1 <= problem.info.get("level", 1) <= 5 for problem in problems)


def test_math_train_is_compared_with_its_tests_in_seconds() -> None:
    assert check("math", "math500").equal == 0
    report = check("math", "math/test", n=8)
    assert ("train/geometry/6032.json", "test/precalculus/24307.json") in {
        (overlap.train, overlap.test) for overlap in report.overlaps if overlap.share == 1.0
    }
    assert report.equal == 2
