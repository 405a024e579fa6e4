"""Process rewards: steps, scores of steps, and what keeps them from being hacked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

import numpy as np
import pytest

from llmrl.answers.steps import step_ends, steps
from llmrl.errors import RecipeError, RewardError
from llmrl.plugins import build
from llmrl.rewards.clip_delta import ClipDelta, Form, shaped
from llmrl.rewards.steps_rule import StepsRule
from llmrl.scoring.combine import dense
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Problem, Score, Trajectory
from tests import builders

PROBLEM = Problem(id="a", messages=(), answer="7")
FORMS: list[Form] = ["pr", "clip", "delta", "clip_delta"]


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=1, timeout_s=2.0) as pool:
        yield pool


@dataclass(frozen=True)
class Process:
    """A process reward that gives what it is told: `"nan"` is NaN, which no option may be."""

    scores: Sequence[Any] | None = None
    ends: Sequence[int] | None = None

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        steps = None if self.scores is None else list(map(float, self.scores))
        return [Score(0.0, steps=steps, step_ends=self.ends) for _ in group]


def score(pool: GradingPool, spec: dict[str, Any], text: str) -> Score:
    episode = builders.episode(builders.turn(text, [0] * len(text)), problem=PROBLEM)
    (given,) = asyncio.run(as_group_reward(build("reward", spec), pool).score([episode]))
    return given


# Steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b c d e\n\nf g h i j", ["a b c d e\n\n", "f g h i j"]),
        ("a b c d e\n \n\nf g h i j\n", ["a b c d e\n \n\n", "f g h i j\n"]),
        ("a\n\nb\n\nc d e f g\n\nh", ["a\n\nb\n\nc d e f g\n\nh"]),
        ("a b c d e\n\n\n\n.\n\n\n\nf g h i j", ["a b c d e\n\n\n\n", ".\n\n\n\nf g h i j"]),
        ("a b c d e\nf g h i j", ["a b c d e\nf g h i j"]),
        ("a b", ["a b"]),
        ("", []),
        (" \n\n \n", []),
    ],
)  # fmt: skip
def test_blank_lines_end_steps_of_five_words(text: str, expected: list[str]) -> None:
    ends = step_ends(text)
    assert steps(text, ends) == expected
    assert "".join(steps(text, ends)) == (text if expected else "")


def test_empty_steps_are_no_way_to_more_steps() -> None:
    plain = "one two three four five\n\nsix seven eight nine ten"
    assert len(step_ends(plain.replace("\n\n", "\n\n" * 50))) == len(step_ends(plain)) == 2
    assert len(step_ends(plain.replace("\n\n", "\n\n" + 50 * "ok\n\n"))) == 12, "five words are a step, however written"


@pytest.mark.parametrize(
    ("text", "scores", "lines"),
    [
        ("3+4=7", [1.0], ["3+4=7"]),
        ("3+4=8\n2*3=6\n", [0.0, 1.0], ["3+4=8\n", "2*3=6\n"]),
        ("So we add:\n3 + 4 = 7.\nThe answer is 7", [1.0], ["So we add:\n3 + 4 = 7.\nThe answer is 7"]),
        ("First\n1+1=2\nthen\n2+2=5\nend", [1.0, 0.0], ["First\n1+1=2\n", "then\n2+2=5\nend"]),
        ("1 + 2 = 3 and 3 + 4 = 8", [0.0], ["1 + 2 = 3 and 3 + 4 = 8"]),
        ("1 + 2 + 3 = 3 + 3 = 6", [1.0], ["1 + 2 + 3 = 3 + 3 = 6"]),
        ("- 6 ÷ 4 = 1.5", [1.0], ["- 6 ÷ 4 = 1.5"]),
        ("1,200 × 2 = 2,400", [1.0], ["1,200 × 2 = 2,400"]),
        ("x = 3 + 4 = 7", [1.0], ["x = 3 + 4 = 7"]),
        ("(3 + 4) * 2 = 14", [1.0], ["(3 + 4) * 2 = 14"]),
        ("4/0=1", [0.0], ["4/0=1"]),
        ("[3+4=7] or -1 + 2 = 1", [1.0], ["[3+4=7] or -1 + 2 = 1"]),
        ("x - 3 + 5 = 7 is algebra, x+3+4=7 too", [], []),
        ("12/20=0.6", [1.0], ["12/20=0.6"]),
        ("each takes .5*10=5.0 hours", [1.0], ["each takes .5*10=5.0 hours"]),
        ("Tom has 3 + 4 = 8 apples", [0.0], ["Tom has 3 + 4 = 8 apples"]),
        ("180 * $50 = $9,000, and 60 x $0.10 = $6", [1.0], ["180 * $50 = $9,000, and 60 x $0.10 = $6"]),
        ("1 + 1 = 2. 2 + 2 = 5", [0.0], ["1 + 1 = 2. 2 + 2 = 5"]),
        ("Step 1. 3 + 4 = 7", [1.0], ["Step 1. 3 + 4 = 7"]),
        ("2) **3 + 4 = 7**", [1.0], ["2) **3 + 4 = 7**"]),
        ("20% of 50 = 0.2*50 = 10", [1.0], ["20% of 50 = 0.2*50 = 10"]),
        ("3/5 of 300 = 3/5 * 300 = 190", [0.0], ["3/5 of 300 = 3/5 * 300 = 190"]),
        ("(A - B) = (20 - 1) = 18", [0.0], ["(A - B) = (20 - 1) = 18"]),
        ("f(3) = 9 - 2 = 7", [1.0], ["f(3) = 9 - 2 = 7"]),
        ("20 / 3 = 6.67 and 20 / 3 = 6.66", [0.0], ["20 / 3 = 6.67 and 20 / 3 = 6.66"]),
        ("20 / 3 = 6.67", [1.0], ["20 / 3 = 6.67"]),
        ("20 / 3 = 6.7", [0.0], ["20 / 3 = 6.7"]),
        ("44(.50)=22, 2(50+100)=300", [1.0], ["44(.50)=22, 2(50+100)=300"]),
        ("12 x 1 and 1/4 = 15, 1 1/2 + 1 = 2.5", [1.0], ["12 x 1 and 1/4 = 15, 1 1/2 + 1 = 2.5"]),
        ("(4+2=6 pets)", [1.0], ["(4+2=6 pets)"]),
        (
            "$80 000 x 5/100 = $4 000; 60/15 = 4 15 min blocks",
            [1.0],
            ["$80 000 x 5/100 = $4 000; 60/15 = 4 15 min blocks"],
        ),
        ("2^3 + 1 = 9, 2x = 3 + 4 = 7 y, 5! + 1 = 121, 60 * 1 = 60%, 2 + 3 = 5x, 6:00+48=6:48", [], []),
        ("3+-4=-1", [1.0], ["3+-4=-1"]),
        ("as in 5 (2) = 7", [], []),
        ("2x + 3 = 7\n2x+3=7\n7=7\nx = 2\n3+4=", [], []),
        ("", [], []),
    ],
)
def test_each_calculation_is_checked(text: str, scores: list[float], lines: list[str]) -> None:
    given = StepsRule()(PROBLEM, text)
    assert (given.value, given.verdict) == (0.0, None)
    assert given.steps == scores
    assert steps(text, list(given.step_ends or ())) == lines


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("((3 + 4 = 7", [1.0]), ("3 + 4) = 7", []), ("3 * (4 + 5 = 27", []), ("(3 + 4)) = 7", []), ("3 + (4 = 7", []),
        ("(3 + 4 = 8)", [0.0]), ("3 * (4 + 5) = 27", [1.0]),
    ],
)  # fmt: skip
def test_a_bracket_without_its_partner_makes_no_step_wrong(text: str, scores: list[float]) -> None:
    assert StepsRule()(PROBLEM, text).steps == scores


# Shapes


def test_the_case_prm_clip_delta() -> None:
    """Clip at 0.7: only 0.3 is below, by 0.4. Delta: 0.9 - 0.8, 0.8 - 0.3, 0.3 - 0.95, then 0.95, then 0."""
    scores, eta = [0.9, 0.8, 0.3, 0.95, 0.99], 0.7
    expected: dict[Form, list[float]] = {
        "pr": scores,
        "clip": [0, 0, -0.4, 0, 0],
        "delta": [0.1, 0.5, -0.65, 0.95, 0],
        "clip_delta": [0, 0.4, -0.4, 0, 0],
    }
    for form, rewards in expected.items():
        assert shaped(scores, form, eta) == pytest.approx(rewards, abs=1e-9)
    assert {form: sum(shaped(scores, form, eta)) for form in FORMS} == pytest.approx(
        {"pr": 3.94, "clip": -0.4, "delta": 0.9, "clip_delta": 0.0}, abs=1e-9
    )
    # With alpha 0.02 and a right answer, what is still to come from step k on is 0.02 * s_k + 1, and 1 at the last.
    for form, returns in (("delta", [1.018, 1.016, 1.006, 1.019, 1.0]), ("clip_delta", [1.0, 1.0, 0.992, 1.0, 1.0])):
        rewards = ClipDelta(form=form, alpha=0.02).rewards(scores)  # type: ignore[arg-type]
        to_come = list(accumulate(reversed(rewards)))[::-1]
        assert [1.0 + rest for rest in to_come] == pytest.approx(returns, abs=1e-9)


def test_the_case_prm_repetition_attack() -> None:
    """n steps of 0.95 before 0.9, 0.8, 0.3: the plain sum is 2 + 0.95 n, the others do not notice."""
    sums = {form: [sum(shaped([0.95] * n + [0.9, 0.8, 0.3], form, 0.7)) for n in (0, 10, 1000)] for form in FORMS}
    assert sums["pr"] == pytest.approx([2.0, 11.5, 952.0])
    assert sums["clip"] == pytest.approx([-0.4] * 3)
    assert sums["delta"] == pytest.approx([0.9, 0.95, 0.95])
    assert sums["clip_delta"] == pytest.approx([0.0] * 3)
    # The case inserts the fillers behind the first step, where delta's sum is that step's score.
    inserted = {form: [sum(shaped([0.9, *[0.95] * n, 0.8, 0.3], form, 0.7)) for n in (0, 10, 1000)] for form in FORMS}
    assert inserted["delta"] == pytest.approx([0.9] * 3)
    assert inserted["clip_delta"] == pytest.approx([0.0] * 3)


@pytest.mark.parametrize("form", ["clip", "delta", "clip_delta"])
def test_no_number_of_steps_pays_more_than_the_bound(form: Form) -> None:
    """For any tail, clip and clip_delta give at most 0 and delta at most alpha, so correctness bounds the return."""
    draw = Random(0)
    for _ in range(300):
        reward = ClipDelta(form=form, eta=draw.random(), alpha=draw.uniform(0.01, 0.99))
        scores = [draw.choice([draw.random(), 0.0, 1.0]) for _ in range(draw.choice([0, 1, 2, 3, 7, 400]))]
        tails = list(accumulate(reversed(reward.rewards(scores))))
        assert max(tails, default=0.0) <= (reward.alpha if form == "delta" else 0.0) + 1e-9
        assert len(tails) == len(scores)


def test_one_step_earns_nothing_by_delta_and_none_earns_nothing_at_all() -> None:
    assert {form: shaped([0.5], form, 0.7) for form in FORMS} == {
        "pr": [0.5],
        "clip": [pytest.approx(-0.2)],
        "delta": [0.0],
        "clip_delta": [0.0],
    }
    assert {form: shaped([], form, 0.7) for form in FORMS} == {form: [] for form in FORMS}


# Around a process reward


def test_the_steps_of_an_answer_are_rewarded_where_they_end(pool: GradingPool) -> None:
    text = "1+1=2\n3+4=8\n2+2=4\n2+2=4"
    given = score(pool, {"name": "clip_delta", "form": "clip"}, text)
    assert given.steps == pytest.approx([0.0, -0.07, 0.0, 0.0])
    assert given.step_ends == [6, 12, 18, 23]
    assert (given.value, given.verdict) == (0.0, None)
    assert given.parts == pytest.approx(
        {
            "process": -0.07,
            "steps": 4.0,
            "tokens_per_step": 23 / 4,
            "score_mean": 0.75,
            "score_first": 1.0,
            "score_last": 1.0,
            "unpaid": 0.75,
            "repeated_steps": 0.25,
        }
    )
    silent = score(pool, {"name": "clip_delta"}, "no calculation")
    assert (silent.value, silent.steps, silent.parts) == (0.0, [], {"process": 0.0, "steps": 0.0})


def test_a_mix_weighs_steps_and_leaves_out_what_weighs_nothing(pool: GradingPool) -> None:
    parts = {"numeric": 1.0, "clip_delta": {"weight": 2.0, "form": "pr"}}
    given = score(pool, {"name": "mix", "parts": parts}, "3+4=7\n1+1=3\n7")
    assert (given.value, given.verdict) == (1.0, "correct")
    assert (given.steps, given.step_ends) == ([pytest.approx(0.2), 0.0], [6, 13])
    assert given.parts["clip_delta/process"] == pytest.approx(0.1)
    logged = score(pool, {"name": "mix", "parts": {"numeric": 1.0, "clip_delta": 0}}, "3+4=7")
    assert logged.step_ends is None
    assert logged.token_rewards is None
    assert logged.parts["clip_delta/steps"] == 1.0


def test_dense_rewards_of_several_parts_add_up() -> None:
    first = Score(0.0, steps=[1.0, 2.0], step_ends=[3, 9], token_rewards=[1.0, 0.0])
    second = Score(0.0, steps=[4.0, 8.0], step_ends=[5, 9], token_rewards=[0.0, 1.0])
    both = dense(Score(1.0), [(1.0, first), (0.5, second)])
    assert (both.steps, both.step_ends, both.token_rewards) == ([1.0, 2.0, 6.0], [3, 5, 9], [1.0, 0.5])
    looked_at = Score(0.0, steps=[0.5])
    assert dense(Score(1.0), [(1.0, looked_at)]) == Score(1.0, steps=[0.5])
    with pytest.raises(RewardError, match="parts of a mix reward 2, 1 tokens of one answer"):
        dense(Score(1.0), [(1.0, first), (1.0, Score(0.0, token_rewards=[1.0]))])


@pytest.mark.parametrize(
    ("scores", "ends", "message"),
    [
        (None, None, "gives no scores of steps"),
        ([0.5], None, "gives no scores of steps"),
        ([0.5], [1, 2], "gives 1 scores and 2 ends"),
        ([0.5, 1.5], [1, 2], "expected 0 to 1, without which no bound holds"),
        ([0.5, 0.5], [2, 1], "ends steps at"),
        ([0.5], [99], "in a text of 4 characters"),
    ],
)
def test_a_process_reward_that_gives_nonsense_is_an_error(
    scores: Any, ends: Any, message: str, pool: GradingPool
) -> None:
    spec = {"name": "clip_delta", "of": {"name": f"{__name__}:Process", "scores": scores, "ends": ends}}
    given = score(pool, spec, "text")
    assert (given.value, given.verdict, given.steps) == (None, "error", None)
    assert message in given.reason
    assert given.reason.startswith("problem a: clip_delta: the reward in of")


def test_a_step_that_is_no_number_is_the_fault_of_who_gave_it(pool: GradingPool) -> None:
    spec = {"name": "clip_delta", "of": {"name": f"{__name__}:Process", "scores": [0.5, "nan"], "ends": [1, 2]}}
    given = score(pool, spec, "text")
    assert (given.value, given.verdict) == (None, "error")
    assert given.reason.startswith("problem a: Process returned steps with nan; expected finite numbers")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1.5}, "eta 1.5: expected 0 to 1"),
        ({"alpha": 1.0}, "or steps would outweigh the answer"),
        ({"alpha": 0}, "expected between 0 and 1"),
        ({"form": "deltas"}, "form"),
        ({"of": {"name": "step_rule"}}, "did you mean 'steps_rule'"),
    ],
)
def test_odd_options_of_clip_delta(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build("reward", {"name": "clip_delta", **options})


# The hacking experiment


def fillers(form: Form, seed: int, credit: str, most: int = 12, updates: int = 600, episodes: int = 32) -> float:
    """Number of fillers that a policy learns which may write up to `most` of them before its answer.

    A filler's score is 0.95, the answer's 0.9, and the answer is right whatever stands before it. The policy has one
    logit for each place. `credit` is "episode", the whole return for every choice, or "to_come", the rewards of the
    step that is chosen and of those behind it, as a critic at each token sees them. Plain REINFORCE, with the mean
    credit of the place as its baseline.
    """
    reward, draw, logits = ClipDelta(form=form, alpha=0.1, eta=0.7), np.random.default_rng(seed), np.zeros(most)
    table = np.zeros((most + 1, most + 1))  # [fillers, place]: what the choice at that place is credited with
    for count in range(most + 1):
        rewards = np.array([*reward.rewards([0.95] * count + [0.9])])
        rewards[-1] += 1.0
        to_come = rewards[::-1].cumsum()[::-1]
        table[count, : count + 1] = to_come if credit == "to_come" else to_come[0]
    places = np.arange(most)
    for _ in range(updates):
        go_on = 1 / (1 + np.exp(-logits))
        chosen = draw.random((episodes, most)) < go_on
        counts = np.where(chosen.all(1), most, chosen.argmin(1))
        chose = places <= counts[:, None]  # places that the episode came to
        earned = table[counts][:, :most]
        mean = (earned * chose).sum(0) / np.maximum(chose.sum(0), 1)
        logits += 2.0 * (chose * (earned - mean) * (chosen - go_on)).mean(0)
    go_on = 1 / (1 + np.exp(-logits))
    return float(np.cumprod(go_on).sum())


@pytest.mark.parametrize("form", FORMS)
def test_fillers_grow_with_the_plain_reward_alone(form: Form) -> None:
    """Specified: plain above 10, the others below 4, from 1.0 at the start."""
    found = [fillers(form, seed, "episode") for seed in range(3)]
    assert min(found) > 10 if form == "pr" else max(found) < 4, found


@pytest.mark.parametrize("form", FORMS)
def test_by_token_delta_alone_pays_the_next_step_and_clip_delta_does_not(form: Form) -> None:
    """From place i on a filler earns alpha * 0.95 and the answer 0; that the whole sum telescopes is no help at i."""
    found = [fillers(form, seed, "to_come") for seed in range(3)]
    assert min(found) > 10 if form in ("pr", "delta") else max(found) < 4, found
