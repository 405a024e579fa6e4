"""`llmrl --help` lists every command, in an order of our own."""

from __future__ import annotations

import typer
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.cli.order import ORDER


def test_every_command_has_its_place() -> None:
    group = typer.main.get_command(app)
    shown = [name for name, command in group.commands.items() if not command.hidden]  # type: ignore[attr-defined]
    assert sorted(shown) == sorted(ORDER)


def test_help_lists_them_in_their_order() -> None:
    text = CliRunner().invoke(app, ["--help"]).output.partition("Commands:")[2]
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2] != " "] == list(ORDER)
