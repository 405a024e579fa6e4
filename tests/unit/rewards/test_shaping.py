"""Length, repetition, exploration; rewards around others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from llmrl.errors import RecipeError, RewardError
from llmrl.plugins import build
from llmrl.rewards.cosine_length import CosineLength
from llmrl.rewards.length_scaled import LengthScaled
from llmrl.rewards.repetition import Repetition
from llmrl.rewards.rlsp import RLSP
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.scoring.trl_functions import TrainerState
from llmrl.types import Problem, Score, Trajectory, Verdict
from tests import builders


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1, timeout_s=2.0) as pool:
        yield pool


@dataclass(frozen=True)
class Fixed:
    """Gives what it is told."""

    value: float | None = 1.0
    verdict: Verdict | None = "correct"

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(self.value, self.verdict, reason="fixed") for _ in group]


@dataclass(frozen=True)
class Broken:
    """Raises, as a judge whose server is away does."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        raise OSError("no answer from the judge")


def fixed(value: float | None = 1.0, verdict: Verdict | None = "correct") -> dict[str, Any]:
    return {"name": f"{__name__}:Fixed", "value": value, "verdict": verdict}


RIGHT, WRONG = fixed(), fixed(0.0, "wrong")


def answer(tokens: int, text: str = "", token_ids: list[int] | None = None) -> Trajectory:
    problem = Problem(id="a", messages=(), answer="4")
    return builders.episode(builders.turn(text, token_ids or list(range(tokens))), problem=problem)


def score(pool: GradingPool, spec: dict[str, Any], *answers: Trajectory) -> list[Score]:
    return asyncio.run(as_group_reward(build("reward", spec), pool).score(answers))


# cosine_length


def test_the_case_cosine_reward() -> None:
    """L 14336, right 2 to 1, wrong -10 to 0; at a quarter: 1 + (1 + cos(pi / 4)) / 2 = 1.8536."""
    reward = CosineLength(max_length=14336, of=RIGHT, margin=0)
    lengths = [0, 3584, 7168, 10752, 14335, 14336]
    right = [2.0, 1.8535533905932737, 1.5, 1.1464466094067263, 1.0000000120055972, -10.0]
    wrong = [-10.0, -8.535533905932738, -5.0, -1.4644660940672627, -1.2005597183062378e-07, -10.0]
    assert [reward.value(True, n) for n in lengths] == pytest.approx(right, abs=1e-9)
    assert [reward.value(False, n) for n in lengths] == pytest.approx(wrong, abs=1e-9)


def test_short_beats_long_if_right_long_beats_short_if_wrong_and_right_beats_wrong() -> None:
    reward = CosineLength(max_length=500, of=RIGHT)
    right = [reward.value(True, n) for n in range(484)]
    wrong = [reward.value(False, n) for n in range(484)]
    assert all(a > b for a, b in pairwise(right))
    assert all(a < b for a, b in pairwise(wrong))
    assert min(right) > max(wrong)
    assert max(wrong) <= 0
    assert {reward.value(correct, n) for correct in (True, False) for n in (484, 500, 9999)} == {-10.0}, "16 before L"


def test_cosine_length_keeps_the_verdict_and_names_its_parts(pool: GradingPool) -> None:
    spec = {"name": "cosine_length", "max_length": 100, "margin": 10}
    short, long = score(pool, {**spec, "of": RIGHT}, answer(50), answer(90))
    assert (short.value, short.verdict, short.parts) == (1.5, "correct", {"correct": 1.0, "exceeded": 0.0})
    assert (long.value, long.verdict, long.parts) == (-10.0, "correct", {"correct": 1.0, "exceeded": 1.0})
    assert short.reason == "50 tokens of 100; fixed"
    (wrong,) = score(pool, {**spec, "of": WRONG}, answer(50))
    assert (wrong.value, wrong.verdict) == (-5.0, "wrong")


def test_a_verifier_inside_runs_in_the_pool(pool: GradingPool) -> None:
    spec = {"name": "cosine_length", "max_length": 100, "of": {"name": "numeric"}}
    right, wrong = score(pool, spec, answer(50, "it is 4"), answer(50, "it is 5"))
    assert (right.value, right.verdict, wrong.value, wrong.verdict) == (1.5, "correct", -5.0, "wrong")
    lifted = as_group_reward(build("reward", spec), pool)
    asyncio.run(lifted.score([answer(5, "4")]))
    assert list(lifted.latencies()) == ["numeric"]


@pytest.mark.parametrize("name", ["cosine_length", "length_scaled", "rlsp"])
def test_what_could_not_be_judged_is_given_no_number(name: str, pool: GradingPool) -> None:
    options = {} if name == "rlsp" else {"max_length": 100}
    (given,) = score(pool, {"name": name, "of": fixed(None, "timeout"), **options}, answer(50))
    assert (given.value, given.verdict) == (None, "timeout")


@pytest.mark.parametrize("name", ["cosine_length", "length_scaled", "rlsp"])
def test_a_reward_without_verdicts_cannot_be_shaped(name: str, pool: GradingPool) -> None:
    options = {} if name == "rlsp" else {"max_length": 100}
    with pytest.raises(RewardError, match=f"{name}: the reward in of judges no right and wrong"):
        score(pool, {"name": name, "of": fixed(1.0, None), **options}, answer(50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 10}, "margin 16, max_length 10: expected 0 <= margin < max_length"),
        ({"max_length": 100, "wrong_longest": 0.5}, "expected at most 0, or long wrong answers would be paid"),
        ({"max_length": 100, "exceed": 1.0}, "expected at most 0"),
        ({"max_length": 100, "correct_longest": 0.0}, "expected above every wrong value"),
        ({"max_length": 100, "of": {"name": "numerik"}}, "did you mean 'numeric'"),
        ({}, "max_length: missing"),
    ],
)
def test_odd_options_of_cosine_length(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build("reward", {"name": "cosine_length", **options})


def test_the_case_length_scaled_reward(pool: GradingPool) -> None:
    """k 0.5, L 100; right at 50: (0.5 + 0.5 * 0.5) * 0.5 = 0.375."""
    reward = LengthScaled(max_length=100, of=RIGHT)
    assert [reward.value(True, n) for n in (0, 50, 100, 101)] == pytest.approx([0.5, 0.375, 0.0, 0.0])
    assert [reward.value(False, n) for n in (0, 50, 100, 101)] == pytest.approx([-1.0, -0.5, 0.0, 0.0])
    (given,) = score(pool, {"name": "length_scaled", "max_length": 100, "of": RIGHT}, answer(50))
    assert (given.value, given.verdict, given.parts) == (0.375, "correct", {"correct": 1.0})
    with pytest.raises(RecipeError, match="risk: input should be less than or equal to 1; found 2"):
        build("reward", {"name": "length_scaled", "max_length": 100, "risk": 2})


# repetition


def test_the_case_repetition_penalty() -> None:
    """Tokens 1 2 3 1 2 3 9 with runs of 3: the run at 3 stood at 0 before, so tokens 3 to 5 pay."""
    dense = Repetition(window=3).of([1, 2, 3, 1, 2, 3, 9])
    assert dense.token_rewards == [0.0, 0.0, 0.0, -0.05, -0.05, -0.05, 0.0]
    assert (dense.value, dense.verdict, dense.parts) == (0.0, None, {"repeated": 0.2})
    sequence = Repetition(form="sequence", window=2)
    # Four runs of 5 5, one of them distinct: (1 - 1/4) * -1.
    assert [sequence.of(ids).value for ids in ([1, 2, 3, 4], [5] * 5, [7])] == [0.0, -0.75, 0.0]


@pytest.mark.parametrize("form", ["dense", "sequence"])
def test_an_answer_shorter_than_a_run_is_not_repetitive(form: Any) -> None:
    """A released implementation divides by zero here."""
    for length in range(40):
        given = Repetition(form=form).of([5] * length)
        assert given.value == 0.0
        assert not any(given.token_rewards or ())
    assert (asyncio.run(Repetition(form=form).score([answer(0)])))[0].value == 0.0


def test_a_token_pays_once_however_many_runs_repeat_it() -> None:
    given = Repetition(window=2).of([5] * 6)
    assert given.token_rewards == [0.0, *[-0.05] * 5]


def test_repetition_is_never_paid() -> None:
    with pytest.raises(RecipeError, match="expected at most 0, or repetition would be paid"):
        build("reward", {"name": "repetition", "penalty": 0.05})
    assert Repetition(penalty=-1.0, window=1).of([3, 3]).token_rewards == [0.0, -1.0]


def test_dense_rewards_keep_their_weight_in_a_mix(pool: GradingPool) -> None:
    parts = {"repetition": {"weight": 2.0, "window": 3}, f"{__name__}:Fixed": 1.0}
    (given,) = score(pool, {"name": "mix", "parts": parts}, answer(7, token_ids=[1, 2, 3, 1, 2, 3, 9]))
    assert given.value == 1.0
    assert given.token_rewards == [0.0, 0.0, 0.0, -0.1, -0.1, -0.1, 0.0]
    assert given.parts["repetition/repeated"] == 0.2


# rlsp


def test_the_case_rlsp_author_reward() -> None:
    """C 1000, weight 0.8. Row 1: 1 - 1000 / (16000 / 4) = 0.75. Row 5: 0.8 * 0.75 + 0.2 * 0.7 = 0.74."""
    released = RLSP(of=RIGHT, form="released", penalty=1000.0)
    right, wrong, lost = Score(1.0, "correct"), Score(0.0, "wrong"), Score(0.0, "unparsable")

    def boxed(characters: int) -> str:
        return "x" * characters + "\\boxed{4}"

    assert released.released(right, boxed(16000), None) == pytest.approx(0.75)
    assert released.released(right, boxed(1600), None) == pytest.approx(-1.5)
    assert released.released(wrong, boxed(16000), None) == pytest.approx(-0.25), "long and wrong beats short and right"
    assert released.released(lost, "x" * 4000, None) == pytest.approx(-1.5)
    assert released.released(right, boxed(16000), 0.7) == pytest.approx(0.74)
    assert released.released(wrong, boxed(16000), 0.5) == pytest.approx(-0.1), "their grade of a failed judge"


def test_an_exception_is_no_neutral_reward(pool: GradingPool) -> None:
    """The release pays 0.5 for a judge that fails and 0.0, more than most wrong answers, for a division by zero."""
    judged = {"name": "rlsp", "of": RIGHT, "explore": {"name": f"{__name__}:Broken"}}
    for form in ("bounded", "released"):
        (given,) = score(pool, {**judged, "form": form}, answer(50, "\\boxed{4}"))
        assert (given.value, given.verdict) == (None, "error")
        assert given.parts == {"correct": 1.0, "explore": None}, "a missing channel"
        assert "no answer from the judge" in given.reason
    empty = RLSP(of=WRONG, form="released", penalty=1000.0).released(Score(0.0, "wrong"), "\\boxed{5}", None)
    assert empty == -4000.0, "the least of all, as one character"


def test_the_case_rlsp_length_bonus(pool: GradingPool) -> None:
    lengths, bonus = [250, 500, 1000, 4000], [0.22119921692859512, 0.3934693402873666, 0.6321205588285577, 0.981684361]
    given = score(pool, {"name": "rlsp", "of": WRONG}, *map(answer, lengths))
    assert [one.parts["explore"] for one in given] == pytest.approx(bonus, abs=1e-9)
    assert [one.value for one in given] == pytest.approx([0.2 * b for b in bonus], abs=1e-9)


@pytest.mark.parametrize("weight", [0.51, 0.8, 1.0])
def test_every_right_answer_outranks_every_wrong_one(weight: float, pool: GradingPool) -> None:
    """The case rlsp_bounded: at 0.8 the worst right answer has 0.8, the best wrong one 0.2."""
    reward = RLSP(of=RIGHT, weight=weight)
    explore = [i / 20 for i in range(21)]
    right = [reward.bounded(True, e, weight) for e in explore]
    wrong = [reward.bounded(False, e, weight) for e in explore]
    assert min(right) > max(wrong)
    if weight == 0.8:
        assert [min(right), max(wrong)] == pytest.approx([0.8, 0.2])


def test_short_and_mostly_right_beats_long_and_mostly_wrong() -> None:
    """400 tokens, 90 % right, against 4,000 tokens, 30 % right: the release prefers the second."""
    bounded, released = RLSP(of=RIGHT), RLSP(of=RIGHT, form="released", penalty=1000.0)

    def arms(pay: Any) -> list[float]:
        return [p * pay(True, n) + (1 - p) * pay(False, n) for n, p in ((400, 0.9), (4000, 0.3))]

    def theirs(right: bool, n: int) -> float:
        verdict: Verdict = "correct" if right else "wrong"
        return released.released(Score(float(right), verdict), "x" * 4 * n + "\\boxed{4}", None)

    assert arms(theirs) == pytest.approx([-1.6, 0.05])
    ours = arms(lambda right, n: bounded.bounded(right, 1 - math.exp(-n / 1000), 0.8))
    assert ours == pytest.approx([0.786, 0.436], abs=5e-4)


def test_distinct_strategies(pool: GradingPool) -> None:
    every = "Let me check. Try another. If we can make 12. Working backwards from 24, I need 3 * 8."
    texts = ["Let me check. Let me verify.", every, "4"]
    given = score(pool, {"name": "rlsp", "of": WRONG, "explore": "strategies"}, *(answer(9, text) for text in texts))
    assert [one.parts["explore"] for one in given] == [0.25, 1.0, 0.0], "saying it twice adds nothing; there are four"


def test_a_grade_outside_its_range_is_an_error(pool: GradingPool) -> None:
    (given,) = score(pool, {"name": "rlsp", "of": RIGHT, "explore": fixed(7.0, None)}, answer(9))
    assert (given.value, given.verdict) == (None, "error")
    assert "explore gave 7.0; expected 0 to 1" in given.reason


def test_exploration_is_annealed_over_the_last_third() -> None:
    reward = RLSP(of=RIGHT, anneal=True)
    weights = [reward.weight_at(TrainerState(global_step=step, max_steps=30)) for step in (0, 20, 25, 30)]
    assert weights == pytest.approx([0.8, 0.8, 0.9, 1.0])
    assert reward.weight_at(TrainerState()) == 0.8, "outside a run"
    assert RLSP(of=RIGHT).weight_at(TrainerState(global_step=30, max_steps=30)) == 0.8


def test_the_pool_says_where_the_run_stands() -> None:
    with GradingPool(workers=1, timeout_s=2.0) as pool:
        lifted = as_group_reward(build("reward", {"name": "rlsp", "of": WRONG, "anneal": True}), pool)
        pool.trainer_state.max_steps = 30
        values = []
        for step in (0, 25, 30):
            pool.trainer_state.global_step = step
            values.append(asyncio.run(lifted.score([answer(1000)]))[0].value)
    assert values == pytest.approx([0.2 * 0.6321205588, 0.1 * 0.6321205588, 0.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0.5}, "expected above 0.5"),
        ({"weight": 1.1}, "at most 1"),
        ({"tau": 0}, "expected above 0"),
        ({"penalty": 1000}, "penalty is of form released alone"),
        ({"form": "released", "explore": "strategies"}, "knows neither annealing nor strategies"),
        ({"explore": {"name": "nobody"}}, "unknown reward 'nobody'"),
        ({"explore": "much"}, "explore"),
    ],
)
def test_odd_options_of_rlsp(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build("reward", {"name": "rlsp", **options})


# by_source


def sourced(source: str | None, text: str) -> Trajectory:
    one = answer(5, text)
    info = {} if source is None else {"source": source}
    return Trajectory(problem=Problem(id="a", messages=(), answer="4", info=info), turns=one.turns, status="done")


def test_each_source_has_its_own_reward(pool: GradingPool) -> None:
    spec = {"name": "by_source", "sources": {"clean": {"name": "numeric"}, "web": fixed(0.5, "wrong")}}
    given = score(pool, spec, sourced("web", "4"), sourced("clean", "4"), sourced("web", "5"), sourced("clean", "5"))
    assert [one.value for one in given] == [0.5, 1.0, 0.5, 0.0]
    assert [one.parts for one in given] == [{"web": 0.5}, {"clean": 1.0}, {"web": 0.5}, {"clean": 0.0}]
    with pytest.raises(RewardError, match=r"problem a: its source is 'moon'; by_source has rewards for clean, web"):
        score(pool, spec, sourced("moon", "4"))
    with pytest.raises(RewardError, match="its source is None"):
        score(pool, spec, sourced(None, "4"))
    with pytest.raises(RecipeError, match="sources is empty"):
        build("reward", {"name": "by_source", "sources": {}})
    with pytest.raises(RecipeError, match=r"sources\.web.*unknown reward"):
        build("reward", {"name": "by_source", "sources": {"web": {"name": "numerisch"}}})
