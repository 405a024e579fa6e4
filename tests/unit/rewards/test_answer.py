"""`Score.answer`: what a verifier read, and that rewards around it pass it on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from llmrl.plugins import build
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Problem, Score
from tests.builders import episode

GAME = {"nums": [8, 3, 8, 3], "target": 24}
TEXT = "<think>5</think> <answer>\\boxed{42}</answer>"  # right under `numeric` and `math_verify`


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1, timeout_s=5.0) as pool:
        yield pool


def scored(pool: GradingPool, reward: Mapping[str, Any], *texts: str) -> list[Score]:
    problem = Problem(id="p", messages=(), answer="42", info={"source": "web"})
    group = [episode(text, problem=problem) for text in texts]
    return asyncio.run(as_group_reward(build("reward", reward), pool).score(group))


@pytest.mark.parametrize(
    ("reward", "problem", "text", "correct", "answer"),
    [
        ("math_verify", {"answer": "1/2"}, "so it is \\boxed{0.5}", True, "0.5"),
        ("math_verify", {"answer": "1/2"}, "The answer is $\\frac13$.", False, "\\frac13"),
        ("numeric", {"answer": "42"}, "it costs $1,042.50", False, "1042.5"),
        ("numeric", {"answer": "53"}, "54 or 53", False, "53"),
        ("choice", {"answer": "B"}, "The answer is (b) Paris.", True, "B"),
        ("choice", {"answer": "B"}, "The answer is A and B", False, "A and B"),
        ("exact", {"answer": "New York"}, "The answer is new  york.", True, "new york"),
        ("regex", {"answer": "[ab]+"}, "<think>x</think> abba ", True, "abba"),
        ("countdown", {"info": GAME}, "<answer> 8/(3-8/3) = 24</answer>", True, "8/(3-8/3)"),
        ("countdown", {"info": GAME}, "<answer>8+3+8+3</answer>", False, "8+3+8+3"),
        ("game24", {"info": GAME}, "Answer: $8 \\div (3 - 8/3)$", True, "8 / (3 - 8/3)"),
        ("game24", {"info": GAME}, "Answer: 8/(3-3)", False, "8/(3-3)"),
        ("json_schema", {}, '```json\n{"a": 1}\n```', True, '{"a": 1}'),
    ],
)
def test_a_verifier_says_what_it_read(
    reward: str, problem: dict[str, Any], text: str, correct: bool, answer: str
) -> None:
    score = build("reward", reward)(Problem(id="p", messages=(), **problem), text)
    assert (score.correct, score.answer) == (correct, answer)


@pytest.mark.parametrize("reward", ["math_verify", "numeric", "choice", "exact", "countdown", "game24", "json_schema"])
def test_where_no_answer_was_found_there_is_none(reward: str) -> None:
    answer = {"choice": "A"}.get(reward, "42")
    score = build("reward", reward)(Problem(id="p", messages=(), answer=answer, info=GAME), "")
    assert (score.correct, score.verdict, score.answer) == (False, "unparsable", None)


NUMERIC = {"name": "numeric"}


@pytest.mark.parametrize(
    "reward",
    [
        NUMERIC,
        {"name": "mix", "parts": {"format": 0.1, "numeric": 1.0, "math_verify": 0.5}},
        {"name": "by_source", "sources": {"web": NUMERIC}},
        {"name": "cosine_length", "max_length": 100, "of": NUMERIC},
        {"name": "length_scaled", "max_length": 100, "of": NUMERIC},
        {"name": "rlsp", "of": NUMERIC},
        {"name": "degenerate", "of": NUMERIC},
        {"name": "heron", "factors": [{"name": "length", "threshold": 1.0}, {"name": "numeric"}]},
        {"name": "open_r1", "reward_funcs": ["format", "cosine"]},
        {"name": "open_r1", "reward_funcs": ["accuracy", "length"]},
    ],
    ids=json.dumps,
)
def test_rewards_around_a_verifier_pass_its_answer_on(pool: GradingPool, reward: dict[str, Any]) -> None:
    right, wrong = scored(pool, reward, TEXT, TEXT.replace("42", "41"))
    assert (right.correct, right.answer) == (True, "42")
    assert (wrong.correct, wrong.answer) == (False, "41")


def test_a_mix_has_the_answer_of_the_part_that_judged(pool: GradingPool) -> None:
    """A part that broke decides the verdict, and has read nothing; one that only counts has none to give."""
    parts = {"regex": {"weight": 1.0, "pattern": "(a*)*b"}, "numeric": 1.0}
    (score,) = scored(pool, {"name": "mix", "parts": parts}, "a" * 40 + "42")
    assert (score.value, score.verdict, score.correct, score.answer) == (None, "timeout", None, None)
