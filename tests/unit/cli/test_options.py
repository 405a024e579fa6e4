"""Options of the command line that are misspelt, and help behind a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.errors import RecipeError

DEMO = str(Path(__file__).parents[3] / "recipes" / "demo.yaml")


@pytest.mark.parametrize("arguments", [["train", DEMO, "-h"], ["train", "-h"], ["-h"], ["tune", DEMO, "-h"]])
def test_help_stands_anywhere(arguments: list[str]) -> None:
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--dryrun", "did you mean '--dry-run'"),
        ("--resum", "did you mean '--resume'"),
        ("-x", "one of --resume"),
    ],
)
def test_an_option_that_is_none_is_no_override(option: str, expected: str) -> None:
    ended = CliRunner().invoke(app, ["train", DEMO, option])
    assert isinstance(ended.exception, RecipeError)
    assert f"{option}: no such option" in str(ended.exception)
    assert expected in str(ended.exception)
