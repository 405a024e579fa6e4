"""Known datasets: the rows that ship, where files are looked for, and what is said where there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.errors import DataError
from llmrl.types import Problem


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
