"""Files of rows: one that another program made is never replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl.datagen import heron, salmon
from llmrl.datagen.ledger import beside, require_own
from llmrl.errors import DataError
from llmrl.scoring.ranked_factors import Factor

ANSWERS = '{"prompt": "p", "responses": ["a b", "a b c"]}\n'


def test_only_a_file_with_its_ledger_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    ledger = beside(out, "judged.jsonl")
    assert ledger == tmp_path / "rows.judged.jsonl"
    require_own(out, ledger)
    out.write_text("mine\n")
    with pytest.raises(DataError, match=r"rows.jsonl: is there already, and rows.judged.jsonl, .* Choose another out"):
        require_own(out, ledger)
    ledger.write_text("{}\n")
    require_own(out, ledger)


def test_commands_that_write_rows_ask_first(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text(ANSWERS)
    with pytest.raises(DataError, match=r"answers.jsonl: is there already"):
        heron.write(answers, answers, [Factor(name="length")])
    with pytest.raises(DataError, match=r"answers.jsonl: is there already"):
        salmon.write(answers, answers, [], None, judged_by="nobody", min_chars=1)  # type: ignore[arg-type]
    assert answers.read_text() == ANSWERS
