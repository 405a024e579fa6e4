"""`llmrl list`: a line for each thing of a kind."""

from __future__ import annotations

from typing import get_args

import pytest
from typer.testing import CliRunner

from llmrl.cli.listing import KINDS
from llmrl.cli.main import app
from llmrl.errors import RecipeError
from llmrl.plugins import Kind, names


def test_every_kind_has_a_list() -> None:
    assert set(KINDS.values()) == set(get_args(Kind))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_line_for_each_plugin_says_what_it_is(kind: str) -> None:
    lines = CliRunner().invoke(app, ["list", kind]).output.splitlines()
    assert [line.split()[0] for line in lines] == names(KINDS[kind])
    assert all(len(line.split()) > 2 for line in lines)


def test_keys_have_their_defaults() -> None:
    lines = dict(line.split(maxsplit=1) for line in CliRunner().invoke(app, ["list", "keys"]).output.splitlines())
    assert lines["train.max_steps"] == "100"
    assert lines["model.policy"] == "required"
    assert "numeric" in lines["reward.name"]


def test_recipes_and_what_is_no_list() -> None:
    assert "gsm8k_grpo.yaml" in CliRunner().invoke(app, ["list", "recipes"]).output
    ended = CliRunner().invoke(app, ["list", "reward"])
    assert isinstance(ended.exception, RecipeError)
    assert "did you mean 'rewards'?" in str(ended.exception)


def test_the_shell_completes() -> None:
    shown = CliRunner().invoke(
        app, [], env={"_ROOT_COMPLETE": "complete_bash", "COMP_WORDS": "root li", "COMP_CWORD": "1"}, prog_name="root"
    )
    assert shown.output.split() == ["list"]
