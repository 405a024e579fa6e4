"""Known datasets: the rows that ship, where files are looked for, and what is said where there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.errors import DataError
from llmrl.types import Problem

MADE = ("arithmetic", "countdown_generated", "constrained_text", "games", "reasoning_gym", "bug_fixes")
PAGES = ("miniwob", "shop")  # their problems are pages by seed
WITHOUT_ROWS = (
    "hub",
    "jsonl",
    "livecodebench",
    "swe_bench",
    "textworld",
    "by_pass_rate",
    "split",
    "mixture",
    "outcomes",
    "perturbed",
    *MADE,
    *PAGES,
)


def read(name: str, **options: Any) -> list[Problem]:
    return list(plugins.build("data", {"name": name, **options}).problems())


def test_gsm8k_takes_the_number_after_the_mark(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": "Half of 2,500 is <<2500/2=1250>>1,250.\n#### 1,250"}
    (tmp_path / "g.jsonl").write_text(json.dumps(row))
    (problem,) = read("gsm8k", path=str(tmp_path / "g.jsonl"), split="test", instruction="")
    assert problem == Problem(
        id="gsm8k/test/0",
        messages=[{"role": "user", "content": "How many?"}],
        answer="1250",
        info={"solution": row["answer"]},
    )


def test_gsm8k_without_final_number_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "g.jsonl").write_text('{"question": "How many?", "answer": "five"}')
    with pytest.raises(DataError, match=r"g\.jsonl:1: column 'answer' has no final `#### number`; found 'five'"):
        read("gsm8k", path=str(tmp_path / "g.jsonl"))


def test_the_data_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMRL_DATA", str(tmp_path))
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_text('{"id": "x", "question": "How many?", "answer": "#### 5"}')
    assert [problem.id for problem in read("gsm8k", split="test")] == ["x"]


def test_nowhere_found_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMRL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"gsm8k/train\.jsonl was not found.*openai/gsm8k could not.*set LLMRL_DATA"):
        read("gsm8k")


@pytest.mark.parametrize("name", [name for name in plugins.names("data") if name not in WITHOUT_ROWS])
def test_the_rows_that_ship_are_read_and_repeatable(name: str) -> None:
    problems = read(name, split="tiny")
    assert len(problems) == 8
    assert all(problem.answer and problem.messages[-1]["content"] for problem in problems)
    assert problems == read(name, split="tiny")


MATHS = {"problem": "Find $x$.", "solution": r"So $x=\boxed{\frac{1}{2}}$, not $\{2\}$."}


@pytest.mark.parametrize(
    ("row", "answer", "info"),
    [
        ({**MATHS, "answer": "0.5", "level": 3, "subject": "Algebra"}, "0.5", {"subject": "Algebra", "level": 3}),
        ({**MATHS, "level": "Level 5", "type": "Geometry"}, r"\frac{1}{2}", {"subject": "Geometry", "level": 5}),
        ({**MATHS, "level": "Level ?"}, r"\frac{1}{2}", {}),
    ],
)
def test_math_reads_the_file_and_the_hub(tmp_path: Path, row: Any, answer: str, info: Any) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    (problem,) = read("math", path=str(tmp_path / "m.jsonl"))
    assert (problem.id, problem.answer) == ("math/train/0", answer)
    assert problem.info == {**info, "solution": MATHS["solution"]}


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("math", {"problem": "Find $x$.", "solution": "It is 5."}, r"m\.jsonl:1: no column 'answer', and the last box"),
        ("math500", {"solution": "5"}, r"m\.jsonl:1: no column 'problem' or 'question'; found solution"),
        ("aime24", {"problem": "Find $x$.", "answer": True}, r"m\.jsonl:1: column 'answer' holds bool"),
        ("countdown", {"nums": [1, "2"], "target": 3}, r"m\.jsonl:1: expected nums, a list of whole numbers"),
        ("countdown", {"nums": [1, 2]}, r"m\.jsonl:1: .*target None"),
        ("gsm8k", {"question": "How many?"}, r"m\.jsonl:1: no column 'answer'; found question"),
    ],
)
def test_a_bad_row_of_a_known_dataset_is_named(tmp_path: Path, name: str, row: Any, message: str) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=message):
        read(name, path=str(tmp_path / "m.jsonl"))


def test_countdown_puts_its_numbers_in_the_prompt() -> None:
    first = read("countdown", split="tiny")[0]
    assert "Reach 16 from the numbers 3, 5, 2 " in first.messages[0]["content"]
    assert (first.info["nums"], first.info["target"], first.answer) == ([3, 5, 2], 16, "16")
