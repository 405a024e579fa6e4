"""Reports of commands as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.errors import RecipeError
from llmrl.run_folder.report import write_report


def test_a_report_may_lie_in_a_new_folder_and_hold_what_is_no_unicode(tmp_path: Path) -> None:
    found = {"text": "\ud800 ü", "numbers": [1, 2.5]}
    write_report(found, tmp_path / "new" / "found.json")
    assert json.loads((tmp_path / "new" / "found.json").read_text()) == found


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match=r"cannot be written: .*; choose another file for --json"):
        write_report({}, tmp_path / "file" / "found.json")
