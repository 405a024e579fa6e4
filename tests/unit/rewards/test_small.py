"""Format, soft overlong, countdown."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.rewards.countdown import CountdownVerifier
from llmrl.rewards.format import Format
from llmrl.rewards.soft_overlong import SoftOverlong
from llmrl.types import Completion, Problem, Trajectory, Turn

PROBLEM = Problem(id="a", messages=())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>2 and 2\n\n</think>\n<answer>4</answer>", 1.0),
        (" <think></think><answer>4</answer>\n", 1.0),
        ("<answer>4</answer>", 0.0),
        ("<think>a</think><answer>4</answer> more", 0.0),
        ("<think>a</think><think>b</think><answer>4</answer>", 0.0),
        ("<think>a</think><answer>4</answer><answer>5</answer>", 0.0),
    ],
)
def test_format(text: str, value: float) -> None:
    score = Format()(PROBLEM, text)
    assert (score.value, score.verdict) == (value, None)


def test_format_takes_a_pattern() -> None:
    assert Format(pattern=r".*#### \d+")(PROBLEM, "a\nb\n#### 12").value == 1.0
    with pytest.raises(RecipeError, match="no regular expression"):
        build("reward", {"name": "format", "pattern": "("})


@pytest.mark.parametrize(
    ("tokens", "penalty"), [(16384, 0.0), (16385, -1 / 4096), (18432, -0.5), (20480, -1.0), (21000, -1.0)]
)
def test_soft_overlong(tokens: int, penalty: float) -> None:
    completion = Completion(token_ids=[0] * tokens, logprobs=[], finish="stop", version=0)
    episode = Trajectory(problem=PROBLEM, turns=[Turn(prompt_ids=[], completion=completion, text="")], status="done")
    (score,) = asyncio.run(SoftOverlong(limit=20480, cache=4096).score([episode]))
    assert score.value == penalty
    assert score.verdict is None


def test_soft_overlong_refuses_an_odd_cache() -> None:
    with pytest.raises(RecipeError, match="expected 0 < cache"):
        build("reward", {"name": "soft_overlong", "limit": 10, "cache": 11})


def countdown(
    text: str, target: Any = 44, rule: Literal["exact", "subset"] = "exact"
) -> tuple[float | None, str | None]:
    problem = Problem(id="a", messages=(), info={"nums": [25, 3, 2], "target": target})
    score = CountdownVerifier(rule=rule)(problem, text)
    return score.value, score.verdict


@pytest.mark.parametrize(
    ("text", "value"),
    [  # the case countdown_score: with 25, 3 and 2 make 44
        ("<answer>(25-3)*2</answer>", 1.0),
        ("<answer>25-3</answer>", 0.1),
        ("try <answer>1+1</answer> then <answer>2*(25-3)</answer>", 1.0),
        ("<answer>25-3*2 = 19</answer>", 0.1),
        ("no tags", 0.0),
        ("<answer>2**25-3</answer>", 0.1),
        ("<answer>25//3*2</answer>", 0.1),
        ("<answer>(25-3)*2.0</answer>", 0.1),
        ("first I try\n(25 - 3) × 2 = 44", 1.0),
        ("<answer>(25-3)*2 = 45</answer>", 0.1),
        ("<answer>__import__('os').getpid()</answer>", 0.1),
        ("<answer>25/(3-3)*2</answer>", 0.1),
        ("<answer>(25-3)*2*1</answer>", 0.1),
        ("<answer>" + "(" * 400 + "</answer>", 0.1),
        ("", 0.0),
    ],
)
def test_countdown(text: str, value: float) -> None:
    assert countdown(text)[0] == value


def test_countdown_rules_and_fractions() -> None:
    assert countdown("<answer>25-3</answer>", 22) == (0.1, "wrong")
    assert countdown("<answer>25-3</answer>", 22, "subset") == (1.0, "correct")
    thirds = Problem(id="a", messages=(), info={"nums": [8, 3, 8, 3], "target": 24})
    assert (
        CountdownVerifier()(thirds, "<answer>8/(3-8/3)</answer>").verdict == "correct"
    )  # exactly 24; floats give 23.99...


def test_countdown_needs_its_columns() -> None:
    with pytest.raises(ValueError, match="no nums and target"):
        CountdownVerifier()(PROBLEM, "1")
