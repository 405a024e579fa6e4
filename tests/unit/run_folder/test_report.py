"""Reports of commands as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.errors import RecipeError
from llmrl.run_folder.report import measured, write_report


def test_a_report_may_lie_in_a_new_folder_and_hold_what_is_no_unicode(tmp_path: Path) -> None:
    found = {"text": "\ud800 ü", "numbers": [1, 2.5]}
    write_report(found, tmp_path / "new" / "found.json")
    assert json.loads((tmp_path / "new" / "found.json").read_text()) == found


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match=r"cannot be written: .*; choose another file for --json"):
        write_report({}, tmp_path / "file" / "found.json")


def test_a_mean_reward_is_no_share() -> None:
    estimate = {"value": 3.25, "low": -1.5, "high": 12.0}
    assert measured("reward", estimate) == ("3.25", "-1.5 to 12")
    assert measured("avg@1", {"value": 0.5, "low": 0.25, "high": 1.0}) == ("50.0%", "25.0% to 100.0%")
