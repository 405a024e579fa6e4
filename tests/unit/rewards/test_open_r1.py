"""Open-r1's rewards by their names: each formula by worked numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.sandbox.solution_tests import Programs, read
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Problem, Score, Trajectory
from tests import builders

GOOD = "<think>\nso\n</think>\n<answer>\n4\n</answer>"


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1, timeout_s=30.0) as pool:
        yield pool


def episode(text: str, tokens: int = 4, answer: str = "4", **info: Any) -> Trajectory:
    problem = Problem(id="sum/1", messages=[{"role": "user", "content": "2+2?"}], answer=answer, info=info)
    return builders.episode(builders.turn(text, [7] * tokens, prompt=[1]), problem=problem)


def scores(pool: GradingPool, *funcs: str, group: list[Trajectory], **options: Any) -> list[Score]:
    spec = {"name": "open_r1", "reward_funcs": funcs, **options}
    return asyncio.run(as_group_reward(build("reward", spec), pool).score(group))


def values(pool: GradingPool, func: str, *texts: str, **options: Any) -> list[float | None]:
    return [one.value for one in scores(pool, func, group=[episode(text) for text in texts], **options)]


def test_the_sum_and_its_parts(pool: GradingPool) -> None:
    (given,) = scores(pool, "accuracy", "format", "tag_count", group=[episode(GOOD)])
    assert (given.value, given.verdict) == (3.0, "correct")
    assert given.parts == {"accuracy": 1.0, "format": 1.0, "tag_count": 1.0}
    (given,) = scores(pool, "format", "accuracy", reward_weights=[0.5, 2], group=[episode("\\boxed{4}")])
    assert (given.value, given.verdict) == (2.0, "correct")
    assert build("reward", "open_r1").reward_funcs == ("accuracy", "format", "tag_count")


def test_accuracy_without_a_reference_is_no_reward(pool: GradingPool) -> None:
    """Once open-r1 paid 1.0 for such problems."""
    (given,) = scores(pool, "accuracy", group=[episode("\\boxed{4}", answer="")])
    assert (given.value, given.verdict) == (None, "error")
    for func in ("length", "cosine"):
        assert scores(pool, func, group=[episode("\\boxed{4}", answer="")])[0].value is None


def test_format(pool: GradingPool) -> None:
    late, inline = f"So: {GOOD}", "<think>so</think><answer>4</answer>"
    assert values(pool, "format", GOOD, f"{GOOD}\nmore", f"{GOOD} ", f"\n{GOOD}", late, inline) == [1, 1, 0, 0, 0, 0]


def test_tag_count(pool: GradingPool) -> None:
    """A quarter for each tag that stands there once."""
    assert values(pool, "tag_count", GOOD, GOOD * 2, GOOD[:-9], "<think>\n", "") == [1.0, 0.0, 0.75, 0.25, 0.0]


def test_tags_in_another_order_or_twice_have_no_form(pool: GradingPool) -> None:
    """The parts of the form backwards; an answer within the thoughts, with which open-r1's expression is content."""
    backwards = "\n</answer>\n<answer>\n\n</think>\n<think>\n"
    twice = "<think>\n<answer>\n\n</answer>\n</think>\n<answer>\n4\n</answer>"
    assert values(pool, "tag_count", backwards, twice) == [0.25, 0.5]
    assert values(pool, "format", backwards, twice) == [0.0, 0.0]


def test_reasoning_steps(pool: GradingPool) -> None:
    """Thirds, at most 1; a numbered line counts at the very beginning alone, for the pattern is not multiline."""
    texts = ["Step 1: a\nStep 2: b", "1. a\n2. b\n3. c", "First, a\n- b\n* c\nFinally, d", "I guess."]
    assert values(pool, "reasoning_steps", *texts) == pytest.approx([2 / 3, 1 / 3, 1.0, 0.0])


def test_length(pool: GradingPool) -> None:
    """20, 40, 60 characters: 0.5, 0, -0.5; a wrong answer has at most 0."""
    right, wrong = "\\boxed{4}", "\\boxed{5}"
    texts = [wrong.rjust(20), right.rjust(20), right.rjust(40), right.rjust(60), wrong.rjust(60)]
    given = scores(pool, "length", group=[episode(text) for text in texts])
    assert [one.value for one in given] == [0.0, 0.5, 0.0, -0.5, -0.5]
    assert [one.verdict for one in given] == ["wrong", "correct", "correct", "correct", "wrong"]
    assert values(pool, "length", right, wrong) == [0.0, 0.0], "all as long"


def test_cosine(pool: GradingPool) -> None:
    """L 100. Right: 1 to 0.5, at half 0.75; wrong: 0 to -0.5, at half -0.25. At 200 the cosine is back at the start."""
    lengths = (50, 100, 200)
    right = values(pool, "cosine", *("\\boxed{4}".rjust(n) for n in lengths), cosine_max_len=100)
    wrong = values(pool, "cosine", *("\\boxed{5}".rjust(n) for n in lengths), cosine_max_len=100)
    assert right == pytest.approx([0.75, 0.5, 1.0])
    assert wrong == pytest.approx([-0.25, -0.5, 0.0])
    (given,) = scores(pool, "cosine", group=[episode("\\boxed{4}".rjust(200))], cosine_max_len=100)
    assert given.parts["cosine/exceeded"] == 1.0


def test_repetition_penalty(pool: GradingPool) -> None:
    """Pairs of a b A b a: ab, ba, ab, ba; two of four distinct, so (1 - 1/2) * -1."""
    assert values(pool, "repetition_penalty", "a b A b a", "a b c", "a", "", repetition_n_grams=2) == [-0.5, 0, 0, 0]
    assert values(pool, "repetition_penalty", "a a a a a", repetition_max_penalty=-0.3) == pytest.approx([-0.2])


def test_soft_overlong_punishment_counts_tokens(pool: GradingPool) -> None:
    group = [episode("x", tokens) for tokens in (80, 90, 100, 101)]
    given = scores(pool, "soft_overlong_punishment", group=group, max_completion_len=100, soft_punish_cache=20)
    assert [one.value for one in given] == [0.0, -0.5, -1.0, -1.0]


def test_code_format(pool: GradingPool) -> None:
    inside = "<think>\nso\n</think>\n<answer>\n```python\n1\n```\n</answer>"
    assert values(pool, "code_format", inside, GOOD) == [1.0, 0.0]
    cpp = episode(inside.replace("python", "c++"), language="c++")
    assert [one.value for one in scores(pool, "code_format", group=[cpp, episode(inside)])] == [1.0, 1.0]


CASES: list[dict[str, Any]] = [
    {"input": "2\n", "output": "4\n", "type": "stdin_stdout"},
    {"input": "3", "output": "9", "fn_name": None},
]


def test_code_is_the_share_of_tests_and_binary_code_all_of_them(pool: GradingPool) -> None:
    info: dict[str, Any] = {"verification_info": {"language": "python", "test_cases": CASES}}
    group = [episode(f"```python\nprint({what})\n```", **info) for what in ("int(input()) ** 2", "4")]
    whole, half = scores(pool, "code", "binary_code", group=group)
    assert (whole.value, whole.parts["code"], whole.parts["binary_code"], whole.verdict) == (2.0, 1.0, 1.0, "correct")
    assert (half.value, half.parts["code"], half.parts["binary_code"], half.verdict) == (0.5, 0.5, 0.0, "wrong")
    (broken,) = scores(pool, "code", group=[episode("```python\n1\n```")])
    assert (broken.value, broken.verdict) == (None, "error")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"language": "cpp", "test_cases": CASES}, "2 tests in cpp; expected some in python"),
        ({"language": "python", "test_cases": []}, "0 tests in python"),
        ({"test_cases": [{"input": "1"}]}, "all text"),
        ({"test_cases": [{**CASES[0], "fn_name": "f"}]}, "tests that call a function"),
    ],
)
def test_tests_that_cannot_be_run_are_refused(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read({"verification_info": told})
    assert read({"verification_info": {"test_cases": CASES}}) == Programs([("2\n", "4\n"), ("3", "9")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward_funcs": ["acuracy"]}, "unknown 'acuracy'; did you mean 'accuracy'"),
        ({"reward_funcs": ["ioi_code"]}, "ioi_code needs a Piston or Morph server, which llmrl does not speak to"),
        ({"reward_funcs": []}, "expected at least one, each once"),
        ({"reward_funcs": ["code", "code"]}, "expected at least one, each once"),
        ({"reward_weights": [1.0]}, r"reward_weights \[1\.0\]: expected one number for each"),
        ({"repetition_max_penalty": 1}, "repetition_max_penalty at most 0"),
        ({"soft_punish_cache": 0}, "cache 0, limit 16384: expected 0 < cache <= limit"),
    ],
)
def test_odd_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build("reward", {"name": "open_r1", **options})
