"""Problems of the test that somebody put among those to train on are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.datagen.contamination import Overlap, check, contaminated
from llmrl.errors import DataError
from llmrl.types import Problem

LONG = "A farmer has seventeen sheep and all but nine of them run away through a hole in the fence on Tuesday night"


def problem(name: str, text: str) -> Problem:
    return Problem(id=name, messages=[{"role": "user", "content": text}], answer="9")


def test_a_planted_problem_is_found_with_its_share() -> None:
    train = [problem("t0", "What is two and two?"), problem("t1", f"Once more: {LONG}. How many are left?")]
    test = [problem("e0", f"{LONG}!"), problem("e1", "Something else entirely about trains leaving two stations")]
    words = len(LONG.split())
    assert contaminated(train, test, n=8) == [Overlap("t1", "e0", words - 7, 0.999)]


def test_equal_texts_are_equal_whatever_their_length_case_and_blanks() -> None:
    assert contaminated([problem("t", "what is 3 - 4?")], [problem("e", "What is 3-4?")]) == [Overlap("t", "e", 0, 1.0)]
    assert contaminated([problem("t", "what is 3 + 4?")], [problem("e", "What is 3-4?")]) == []


def test_phrasing_that_every_test_problem_has_does_not_count() -> None:
    phrase = "find the value of the following expression and write it as a whole number"
    test = [problem(f"e{i}", f"{phrase}: {i} plus {i}") for i in range(11)]
    assert contaminated([problem("t", f"{phrase}: 99 minus 5")], test, n=8) == []
    assert len(contaminated([problem("t", f"{phrase}: 99 minus 5")], test[:10], n=8)) == 10


def test_check_counts_rows_and_ignores_the_instruction(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": LONG, "answer": "9"}, {"id": "b", "prompt": LONG.upper(), "answer": "9"}]
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test.write_text(json.dumps({"prompt": f"Well, {LONG}", "answer": "9"}))
    spec = {"name": "jsonl", "path": str(test), "instruction": "Say so."}
    report = check(str(train), spec, n=8)
    assert (report.train, report.test, report.repeated, report.unanswered) == (2, 1, [("a", "b")], 0)
    assert (report.equal, report.touched) == (0, 1)
    assert ("train problems", "2") in report.rows()
    assert check("gsm8k/tiny", "gsm8k/tiny").equal == 8


def test_a_broken_row_and_a_bad_length_stop_the_check(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "a"}\n{"prompt": 5}\n')
    with pytest.raises(DataError, match=r"train\.jsonl:2: the prompt is int"):
        check(str(tmp_path / "train.jsonl"), "gsm8k/tiny")
    with pytest.raises(ValueError, match="at least 1 word"):
        contaminated([], [], n=0)
