"""Rewards written for other toolkits: what they are given, what they may return, and how they fail."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.rewards.openrlhf import OpenRLHF
from llmrl.rewards.verl import Verl
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Completion, Message, Problem, Score, Trajectory, Turn

HERE = "written_elsewhere"


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    sys.path.insert(0, str(Path(__file__).parent))
    with GradingPool(workers=1, timeout_s=3.0) as pool:
        yield pool
    sys.path.remove(str(Path(__file__).parent))
    sys.modules.pop(HERE, None)


def turn(text: str, tokens: int = 4, reply: Sequence[Message] = (), finish: Any = "stop") -> Turn:
    completion = Completion(token_ids=[7] * tokens, logprobs=[0.0] * tokens, finish=finish, version=0)
    return Turn(prompt_ids=[1], completion=completion, text=text, reply=reply)


def episode(*turns: Turn | str, answer: str = "4", finish: Any = "stop", **info: Any) -> Trajectory:
    problem = Problem(id="sum/1", messages=[{"role": "user", "content": "2+2?"}], answer=answer, info=info)
    played = [turn(one, finish=finish) if isinstance(one, str) else one for one in turns]
    return Trajectory(problem=problem, turns=played, status="done")


def scores(pool: GradingPool, spec: dict[str, Any], *group: Trajectory) -> list[Score]:
    return asyncio.run(as_group_reward(build("reward", spec), pool).score(group))


def score(pool: GradingPool, spec: dict[str, Any], one: Trajectory) -> Score:
    return scores(pool, spec, one)[0]


# verl


def verl(function: str, **options: Any) -> dict[str, Any]:
    return {"name": "verl", "function": f"{HERE}:{function}", **options}


def test_verl_gets_source_answer_and_ground_truth(pool: GradingPool) -> None:
    right, wrong = scores(pool, verl("compute_score", data_source="sums"), episode("4"), episode("5"))
    assert (right, wrong) == (Score(1.0), Score(0.0))
    assert score(pool, verl("compute_score"), episode("4", data_source="sums")) == Score(1.0)
    assert score(pool, verl("waits", data_source="x"), episode("abc")) == Score(3.0)


def test_verl_gets_a_ground_truth_of_any_type_and_its_own_arguments(pool: GradingPool) -> None:
    model = {"style": "rule", "ground_truth": {"target": 24}}
    one = episode("", data_source="x", reward_model=model, extra_info={"index": 7})
    assert score(pool, verl("sees"), one) == Score(31.0)
    assert score(pool, verl("sees", reward_kwargs={"scale": 2}), one) == Score(62.0)


def test_the_dict_of_verl_has_parts_and_a_verdict(pool: GradingPool) -> None:
    right, wrong = scores(pool, verl("detailed", data_source="x"), episode("so 4"), episode("5"))
    assert right == Score(1.0, "correct", {"acc": 1.0, "turns": 2.0}, reason="pred 'so 4'", answer="so 4")
    assert (wrong.value, wrong.verdict) == (-1.0, "wrong")
    assert score(pool, verl("detailed", data_source="x", correct_at=-1), episode("5")).verdict == "correct"


@pytest.mark.parametrize(("text", "value"), [("array", 0.5), ("numpy", 0.25), ("none", None)])
def test_what_verl_may_return(pool: GradingPool, text: str, value: float | None) -> None:
    given = score(pool, verl("acts", data_source="x"), episode(text))
    assert (given.value, given.verdict) == (value, None)
    assert value is not None or given.reason == "problem sum/1: acts abstained"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise", "raised KeyError: 'gold'"),
        ("exit", "ended with exit code 3"),
        ("text", "returned '1.0'; expected a finite number or None"),
        ("nan", "returned nan; expected a finite number"),
        ("list", "returned [1.0]; expected a finite number"),
        ("dict", "returned a dict of reward; expected one with score"),
        ("nan in a dict", "returned np.float64(inf); expected a finite number"),
    ],
)
def test_a_broken_verl_function_is_an_error_of_its_answer_alone(pool: GradingPool, text: str, said: str) -> None:
    bad, good = scores(pool, verl("acts", data_source="x"), episode(text), episode("array"))
    assert (bad.value, bad.verdict) == (None, "error")
    assert bad.reason.startswith("problem sum/1: acts ")
    assert said in bad.reason
    assert good.value == 0.5


def test_a_verl_function_that_hangs_is_killed_in_time(pool: GradingPool) -> None:
    pool.timeout_s, before = 1.0, pool.timeout_s
    bad, good = scores(pool, verl("acts", data_source="x"), episode("hang"), episode("none"))
    pool.timeout_s = before
    assert (bad.value, bad.verdict, good.verdict) == (None, "timeout", None)


def test_verl_without_a_source_or_with_odd_columns_is_an_error(pool: GradingPool) -> None:
    bare = score(pool, verl("compute_score"), episode("4"))
    assert (bare.value, bare.verdict) == (None, "error")
    assert "no data_source: give the problems a column" in bare.reason
    odd = score(pool, verl("compute_score"), episode("4", data_source="sums", extra_info="text"))
    assert (odd.value, odd.verdict) == (None, "error")
    assert "problem sum/1: compute_score raised TypeError" in odd.reason


# OpenRLHF


def openrlhf(function: str, **options: Any) -> dict[str, Any]:
    return {"name": "openrlhf", "function": f"{HERE}:{function}", **options}


def test_openrlhf_gets_query_prompt_and_label(pool: GradingPool) -> None:
    assert scores(pool, openrlhf("reward_func"), episode("4"), episode("5")) == [Score(1.0), Score(0.0)]
    assert score(pool, openrlhf("spells"), episode("4", answer="2+2?\n4")) == Score(1.0)
    assert score(pool, openrlhf("later"), episode("4")) == Score(1.0)
    replied = turn("3", reply=[{"role": "user", "content": "no"}])
    assert score(pool, openrlhf("spells"), episode(replied, "4", answer="2+2?\n3\nno\n4")) == Score(1.0)


def test_openrlhf_writes_chatml_where_asked(pool: GradingPool) -> None:
    ask, end = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"
    spec = openrlhf("chatml", chat="chatml")
    assert score(pool, spec, episode("4")) == Score(1.0)
    assert score(pool, spec, episode("4", finish="length")) == Score(0.0), "a cut answer has no end"
    replied = turn("3", reply=[{"role": "user", "content": "no"}])
    whole = f"{ask}3{end}\n<|im_start|>user\nno{end}\n<|im_start|>assistant\n4{end}"
    assert score(pool, openrlhf("spells", chat="chatml"), episode(replied, "4", answer=whole)) == Score(1.0)
    assert score(pool, spec, episode(replied, "4")) == Score(1.0)


def test_the_dict_of_openrlhf_has_parts(pool: GradingPool) -> None:
    given = score(pool, openrlhf("with_logs", correct_at=1.0), episode("4"))
    assert given == Score(1.0, "correct", {"length": 3.0, "scores": 1.0})
    given = score(pool, openrlhf("with_logs", correct_at=1.0), episode("5"))
    assert (given.value, given.verdict) == (-1.0, "wrong"), "correct_at is about the score, not the reward"
    assert score(pool, openrlhf("with_logs"), episode("5")).verdict is None


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("raise", "raised ZeroDivisionError: oh"),
        ("two", "returned 2 rewards for 1 query"),
        ("none of them", "returned 0 rewards for 1 query"),
        ("text", "returned 'good'; expected a finite number or None"),
        ("nan", "returned nan; expected a finite number or None"),
        ("dict", "returned a dict of reward; expected one with rewards"),
        ("scores", "returned 2 scores for 1 query"),
        ("logs", "returned extra_logs of list; expected a dict"),
    ],
)
def test_a_broken_openrlhf_function_is_an_error(pool: GradingPool, label: str, said: str) -> None:
    given = score(pool, openrlhf("strange"), episode("x", answer=label))
    place = f" ({Path(__file__).with_name('written_elsewhere.py')}:91)" if label == "raise" else ""
    assert given == Score(None, "error", reason=f"problem sum/1: strange {said}{place}")


def test_an_openrlhf_function_may_abstain(pool: GradingPool) -> None:
    assert score(pool, openrlhf("strange"), episode("x", answer="abstains")).verdict is None


def test_tensors_are_numbers() -> None:
    import torch

    reward = OpenRLHF(function="math:sqrt", correct_at=1.0)
    logs = {"length": torch.tensor([3.0, 4.0]), "note": torch.tensor(float("nan"))}
    result = {"rewards": torch.tensor([-1.0]), "scores": torch.tensor(1), "extra_logs": logs}
    assert reward.read(result) == Score(-1.0, "correct", {"length": 3.5, "scores": 1.0})
    assert reward.read(torch.tensor([0.5], requires_grad=True)) == Score(0.5, "wrong")
    with pytest.raises(ValueError, match="returned 2 rewards for 1 query"):
        reward.read(torch.tensor([0.5, 1.0]))
    assert Verl(function="math:sqrt").read({"score": torch.tensor(2), "acc": torch.tensor(True)}).verdict == "correct"
    with pytest.raises(ValueError, match=r"returned tensor\(nan\); expected a finite number"):
        Verl(function="math:sqrt").read(torch.tensor(float("nan")))


# verifiers


def verifiers(rubric: str, **options: Any) -> dict[str, Any]:
    return {"name": "verifiers", "rubric": f"{HERE}:{rubric}", **options}


@pytest.mark.parametrize("rubric", ["rubric", "load_environment"])
def test_a_rubric_is_the_weighted_sum_of_its_functions(pool: GradingPool, rubric: str) -> None:
    asked = {"task": "sums", "info": '{"level": 3}'}
    right, long = scores(pool, verifiers(rubric), episode("so = 4", **asked), episode("a long way = 5", **asked))
    assert right == Score(1.5, None, {"right": 1.0, "brief": 1.0, "length": 6.0})
    assert long == Score(0.0, None, {"right": 0.0, "brief": 0.0, "length": 14.0})
    assert score(pool, verifiers(rubric, correct_at=1.0), episode("= 4", **asked)).verdict == "correct"


def test_older_rubrics_and_columns_instead_of_info(pool: GradingPool) -> None:
    assert score(pool, verifiers("older"), episode("4")) == Score(2.0, None, {"brief": 1.0})
    assert score(pool, verifiers("rubric"), episode("= 4", task="sums", level=3)).value == 1.5


def test_a_group_of_rubrics_may_judge_groups_and_names_stay_apart(pool: GradingPool) -> None:
    first, second = scores(pool, verifiers("group"), episode("= 4"), episode("a long way = 5"))
    assert first == Score(2.5, None, {"right": 1.0, "brief": 1.0, "rank": 0.0, "brief_2": 1.0})
    assert second == Score(0.1, None, {"right": 0.0, "brief": 0.0, "rank": 1.0, "brief_2": 0.0})
    assert scores(pool, verifiers("group")) == []


@pytest.mark.parametrize(
    ("text", "verdict", "said"),
    [
        ("raise", "error", "broken breaks raised KeyError: 'tools'"),
        ("nan", "error", "broken breaks returned nan; expected a finite number or None"),
        ("text", "error", "broken breaks returned '1'; expected a finite number or None"),
        ("none", None, "broken breaks abstained"),
    ],
)
def test_a_function_that_breaks_is_no_zero(pool: GradingPool, text: str, verdict: Any, said: str) -> None:
    """verifiers logs the error and counts 0."""
    bad, good = scores(pool, verifiers("broken"), episode(text), episode("4"))
    assert bad == Score(None, verdict, {"brief": 1.0, "breaks": None}, reason=f"problem sum/1: {said}")
    assert good.value == 2.0
    assert score(pool, verifiers("metric"), episode(text)).value == 1.0, "what weighs nothing breaks nothing"


def test_a_group_function_of_too_few_values_is_an_error(pool: GradingPool) -> None:
    given = scores(pool, verifiers("short_list"), episode("4"), episode("5"))
    assert [(one.value, one.verdict) for one in given] == [(None, "error")] * 2
    assert "ranks_badly returned 1 values for 2 completions" in given[0].reason


# TRL


def test_a_function_with_arguments_and_a_factory(pool: GradingPool) -> None:
    spec = {"name": "trl", "function": f"{HERE}:brevity"}
    assert scores(pool, spec, episode("4"), episode("a long answer")) == [Score(1.0), Score(0.0)]
    assert score(pool, {**spec, "kwargs": {"limit": 50}}, episode("a long answer")) == Score(1.0)
    made = {"name": "trl", "function": f"{HERE}:get_brevity", "kwargs": {"limit": 5}, "correct_at": 1.0}
    assert [one.verdict for one in scores(pool, made, episode(turn("x", 4)), episode(turn("x", 5)))] == [
        "correct",
        "wrong",
    ]


# TRL's own functions, unchanged


def trl(function: str, **kwargs: Any) -> dict[str, Any]:
    return {"name": "trl", "function": f"trl.rewards:{function}", "kwargs": kwargs}


def values(pool: GradingPool, spec: Any, *group: Trajectory) -> list[float | None]:
    return [one.value for one in asyncio.run(as_group_reward(build("reward", spec), pool).score(group))]


def test_the_functions_of_trl_run_unchanged() -> None:
    """L 100, cache 20, at 90 tokens: (80 - 90) / 20. Half of 100: 0.75 right, -0.75 wrong. Runs of 2: 1 - 1/4."""
    from trl.rewards import get_repetition_penalty_reward

    right = episode(turn("<think>a</think> \\boxed{4}", 50), solution="$4$")
    wrong = episode(turn("\\boxed{5}", 50), solution="$4$")
    unread = episode(turn("\\boxed{5}", 50), solution="")
    with GradingPool(workers=1, timeout_s=60.0) as pool:
        assert values(pool, "trl.rewards:accuracy_reward", right, wrong, unread) == [1.0, 0.0, None]
        assert values(pool, "trl.rewards:think_format_reward", right, wrong) == [1.0, 0.0]
        assert values(pool, trl("reasoning_accuracy_reward"), right, wrong) == [1.0, 0.0]
        assert values(pool, trl("reasoning_accuracy_reward", reasoning_delimiters=["|"]), right) == [0.0]
        assert values(pool, trl("get_cosine_scaled_reward", max_len=100), right, wrong) == pytest.approx([0.75, -0.75])
        overlong = trl("get_soft_overlong_punishment", max_completion_len=100, soft_punish_cache=20)
        assert values(pool, overlong, *(episode(turn("x", n)) for n in (80, 90, 101))) == [0.0, -0.5, -1.0]
        assert values(pool, trl("get_repetition_penalty_reward", ngram_size=2), episode(turn("x", 5))) == [-0.75]
        made = as_group_reward(get_repetition_penalty_reward(ngram_size=2), pool)
        assert asyncio.run(made.score([episode(turn("x", 5))])) == [Score(-0.75)], "an object of a script's own"


# All


def test_what_they_measure_is_timed_by_name(pool: GradingPool) -> None:
    lifted = as_group_reward(build("reward", verl("waits", data_source="x")), pool)
    asyncio.run(lifted.score([episode("a"), episode("b")]))
    assert {name: len(seconds) for name, seconds in lifted.latencies().items()} == {"waits": 2}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (verl("nowhere"), "function: 'written_elsewhere:nowhere' cannot be imported: AttributeError"),
        (verl("rubric"), "function 'written_elsewhere:rubric' is Rubric; expected a function"),
        ({"name": "verl", "function": "compute_score"}, "function 'compute_score': expected package.module:attribute"),
        ({"name": "openrlhf"}, "function: missing; it has no default"),
        (openrlhf("reward_func", chat="llama"), "chat: input should be 'plain' or 'chatml'"),
        (verifiers("lopsided"), "has 2 functions and 1 weights; expected one each"),
        (verifiers("nothing"), "holds no functions; expected an object with funcs and weights"),
        (verifiers("LOCK"), "holds no functions"),
        ({"name": "trl", "function": f"{HERE}:get_brevity"}, "raised TypeError: get_brevity.. missing 1 required"),
        (
            {"name": "trl", "function": f"{HERE}:load_environment"},
            "has no parameter completions or completion_ids, and",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(pool: GradingPool, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build("reward", spec)
