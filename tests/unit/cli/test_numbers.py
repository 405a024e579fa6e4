"""Numbers that make no sense are refused by every command, before it does anything."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.errors import RecipeError

DATA = ["--data", "arithmetic", "--reward", "numeric", "--out", "none.jsonl"]


@pytest.mark.parametrize(
    "words",
    [
        ["play", "maze", "--episodes", "0"],
        ["play", "maze", "--seed", "-1"],
        ["eval-rm", "none", "--data", "none.jsonl", "--limit", "0"],
        ["demo", "--seed", "-1"],
        ["data", "check", "gsm8k/tiny", "--against", "gsm8k/tiny", "--words", "0"],
        ["data", "prime", "all", "--out", "none.jsonl", "--count", "0"],
        ["data", "step-labels", "none", *DATA, "--solutions", "0"],
        ["data", "step-labels", "none", *DATA, "--max-tokens", "-1"],
        ["data", "search", "none", *DATA, "--search", "best_of_n:2", "--limit", "0"],
        ["tune", "none.yaml", "--space", "none.yaml", "--out", "none", "--trials", "0"],
        ["serve", "none", "--max-model-len", "0"],
        ["serve-reward", "numeric", "--workers", "0"],
        ["serve-reward", "numeric", "--grace-s", "nan"],
    ],
)
def test_whole_numbers(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, f"Invalid value for '{words[-2]}'" in done.output) == (2, True), done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve-reward", "numeric", "--timeout-s", "0"], "serve-reward.timeout_s: input should be greater than 0"),
        (["serve-reward", "numeric", "--timeout-s", "nan"], "serve-reward.timeout_s: expected a finite number"),
        (
            ["serve-reward", "numeric", "--request-timeout-s", "inf"],
            "serve-reward.request_timeout_s: expected a finite",
        ),
        (["serve", "none", "--critic", "none", "--critic-beta", "nan"], "serve.critic_beta: expected a finite number"),
        (["serve", "none", "--search", "best_of_n:2", "--search-tokens", "0"], "serve.search_tokens: input should be"),
        (["demo", "--target", "1.5"], "demo.target: input should be less than or equal to 0.9"),
        (["demo", "--target", "nan"], "demo.target: expected a finite number"),
        (["data", "step-labels", "none", *DATA, "--temperature", "-1"], "data.temperature: input should be greater"),
        (["data", "search", "none", *DATA, "--search", "best_of_n:2", "--temperature", "nan"], "data.temperature: exp"),
        (["audit-reward", "numeric", "--limit", "0"], "audit-reward.limit: input should be greater"),
    ],
)
def test_other_numbers(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, RecipeError), done.output
    assert str(done.exception).startswith(said)
