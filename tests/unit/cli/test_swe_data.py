"""`llmrl data swe`, `swe-tests` and `swe-trajectories`, as they are mistyped."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.errors import LlmrlError, RecipeError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["swe", ".", "--max-files", "0"], "max_files, max_lines and max_tokens of at least 1"),
        (["swe-tests", "rows.jsonl", "--timeout-s", "0"], "timeout_s: input should be greater than 0; found 0.0"),
    ],
)
def test_a_wrong_option_is_named(words: list[str], expected: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", *words, "--out", str(tmp_path / "out.jsonl")])
    assert isinstance(done.exception, RecipeError)
    assert expected in str(done.exception)


@pytest.mark.parametrize("option", ["--workers", "--runs"])
def test_counts_are_at_least_one(option: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "swe-tests", "rows.jsonl", "--out", str(tmp_path / "out"), option, "0"])
    assert done.exit_code == 2
    assert option in done.output


@pytest.mark.parametrize("command", ["swe-tests", "swe-trajectories"])
def test_what_cannot_be_read_leaves_no_file(command: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = CliRunner().invoke(app, ["data", command, str(tmp_path / "none.jsonl"), "--out", str(out)])
    assert isinstance(done.exception, LlmrlError)
    assert not out.exists()
