"""A template that opens the thoughts for the policy: verifiers see that they are thoughts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llmrl.chat import Chat
from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem, Score
from tests import builders

OPENS = "{%- for message in messages -%}{{- message.content -}}{%- endfor -%}{{- '\n<think>\n' -}}"
CLOSES = OPENS.replace("<think>\n", "<think>\n\n</think>\n\n")


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1, timeout_s=30.0) as pool:
        yield pool


def score(pool: GradingPool, name: str, text: str, opened: str = "<think>\n", **options: Any) -> Score:
    turn = replace(builders.turn(text), opened=opened)
    episode = builders.episode(turn, problem=Problem(id="a", messages=(), answer="4"))
    return asyncio.run(as_group_reward(build("reward", {"name": name, **options}), pool).score([episode]))[0]


@pytest.mark.parametrize(("template", "opened"), [(OPENS, "<think>\n"), (CLOSES, "")])
def test_the_end_of_a_prompt_tells_what_it_opened(template: str, opened: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    chat = Chat(tokenizer)
    assert chat.opened(chat.prompt_ids([{"role": "user", "content": "2+2"}])) == opened


def test_a_well_formed_answer_has_the_form(pool: GradingPool) -> None:
    text = "so\n</think>\n<answer>4</answer>"
    assert score(pool, "format", text).value == 1.0
    assert score(pool, "format", text, opened="").value == 0.0
    assert score(pool, "math_verify", text).verdict == "correct"


@pytest.mark.parametrize("name", ["math_verify", "numeric", "exact", "choice"])
def test_what_stands_in_the_thoughts_alone_is_no_answer(pool: GradingPool, name: str) -> None:
    options: dict[str, Any] = {"first_index": 3} if name == "choice" else {}
    for text in ("The answer is 4.", "\\boxed{4}", "The answer is B."):
        assert score(pool, name, text, "<think>\n", **options).value == 0.0
    assert score(pool, "math_verify", "The answer is 4.", opened="").value == 1.0


def test_steps_end_in_the_text_of_the_completion(pool: GradingPool) -> None:
    text = "1 + 1 = 2\n2 + 2 = 5\n"
    given = score(pool, "steps_rule", text)
    assert (given.steps, given.step_ends) == ([1.0, 0.0], [10, len(text)])
