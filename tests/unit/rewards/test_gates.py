"""Parts of a mix that count only where another part is worth so much."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.envs.single_turn import SingleTurn
from llmrl.errors import RecipeError
from llmrl.plugins import build
from llmrl.recipe import RolloutOptions
from llmrl.rewards.mix import MixedReward
from llmrl.rollout.samples import to_samples
from llmrl.rollout.worker import RolloutWorker
from llmrl.scoring.conditions import Gate, gate
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem, Score, Trajectory
from tests import builders


@dataclass
class Says:
    """Gives one score to everything."""

    said: Score
    name: str = field(default="says")

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [self.said for _ in group]

    def latencies(self) -> dict[str, list[float]]:
        return {self.name: [0.5]}


def episode() -> Trajectory:
    return builders.episode(builders.turn("4", [1, 2], prompt=[0]))


def mixed(scores: dict[str, Score], weights: dict[str, float] | None = None, **conditions: str) -> Score:
    gates = {name: gate(text, scores, name) for name, text in conditions.items()}
    reward = MixedReward(weights or dict.fromkeys(scores, 1.0), {n: Says(s) for n, s in scores.items()}, gates)
    (given,) = asyncio.run(reward.score([episode()]))
    return given


RIGHT, WRONG = Score(1.0, "correct"), Score(0.0, "wrong")


def test_a_part_counts_only_where_the_other_holds() -> None:
    """Right: 1 + 0.1. Wrong: 0, whatever the form; its own worth is logged all the same."""
    weights = {"numeric": 1.0, "format": 0.1}
    right = mixed({"numeric": RIGHT, "format": Score(1.0)}, weights, format="numeric >= 1")
    wrong = mixed({"numeric": WRONG, "format": Score(1.0)}, weights, format="numeric >= 1")
    assert right == Score(1.1, "correct", {"numeric": 1.0, "format": 1.0, "format/gated": 1.0})
    assert wrong == Score(0.0, "wrong", {"numeric": 0.0, "format": 1.0, "format/gated": 0.0})


def test_the_verdict_is_the_answers_own_even_where_it_counts_for_nothing() -> None:
    given = mixed({"numeric": RIGHT, "format": Score(0.0)}, numeric="format >= 1")
    assert (given.value, given.verdict) == (0.0, "correct")


def test_conditions_look_at_worth_before_weights_and_other_conditions() -> None:
    """a is worth 1 and counts for nothing; b asks what a is worth; c asks nobody."""
    scores = {"a": Score(1.0), "b": Score(2.0), "c": Score(0.0)}
    assert mixed(scores, {"a": 0.0, "b": 3.0, "c": 1.0}, a="c > 0", b="a >= 1").value == 6.0
    assert mixed(scores, {"a": 5.0, "b": 3.0, "c": 1.0}, a="b < 1", b="a >= 1").value == 6.0, "two that ask each other"


def test_a_condition_may_ask_what_a_part_is_made_of() -> None:
    scores = {"code": Score(0.5, "wrong", {"tests": 0.5}), "format": Score(1.0)}
    assert mixed(scores, format="code/tests >= 0.5").value == 1.5
    assert mixed(scores, format="code/tests > 0.5").value == 0.5


def test_a_condition_that_could_not_be_judged_takes_the_whole_with_it() -> None:
    late = Score(None, "timeout", reason="took longer than 2 s")
    given = mixed({"numeric": late, "format": Score(1.0)}, {"numeric": 0.0, "format": 0.1}, format="numeric >= 1")
    assert given == Score(
        None,
        "timeout",
        {"numeric": None, "format": 1.0, "format/gated": None},
        reason="numeric: took longer than 2 s",
    )
    only_logged = mixed({"numeric": late, "format": Score(1.0)}, {"numeric": 0.0, "format": 0.0}, format="numeric >= 1")
    assert only_logged.value == 0.0
    told = Score(1.0, "correct", reason="2 of 2")
    nameless = mixed({"code": told, "format": Score(1.0)}, format="code/tests >= 1")
    assert (nameless.value, nameless.reason) == (None, "code: it gave nothing for the condition code/tests >= 1")


def test_what_does_not_count_need_not_be_judged() -> None:
    late = Score(None, "timeout", reason="late")
    given = mixed({"numeric": WRONG, "judge": late}, judge="numeric >= 1")
    assert (given.value, given.verdict, given.parts["judge/gated"]) == (0.0, "wrong", 0.0)
    given = mixed({"numeric": RIGHT, "judge": late}, judge="numeric >= 1")
    assert (given.value, given.verdict, given.parts["judge/gated"]) == (None, "timeout", None)


def test_dense_rewards_stand_under_the_condition_too() -> None:
    dense = Score(0.0, token_rewards=[0.0, -1.0])
    assert mixed({"numeric": RIGHT, "repetition": dense}, repetition="numeric < 1").token_rewards is None
    assert mixed({"numeric": WRONG, "repetition": dense}, repetition="numeric < 1").token_rewards == [0.0, -1.0]


values = st.none() | st.integers(-3, 3).map(float)
names = st.sampled_from("abc")
conditions = st.none() | st.tuples(names, st.sampled_from([">=", ">", "<=", "<"]), st.integers(-2, 2))


@given(
    st.fixed_dictionaries(dict.fromkeys("abc", values)),
    st.fixed_dictionaries(dict.fromkeys("abc", st.integers(-2, 2).map(float))),
    st.fixed_dictionaries(dict.fromkeys("abc", conditions)),
)
def test_a_mix_is_the_sum_of_what_counts(
    worth: dict[str, float | None], weights: dict[str, float], asked: dict[str, Any]
) -> None:
    """Against Python's own comparisons: a sum over the parts that count, or no value where one of them is unsure."""
    total: float | None = 0.0
    for name in "abc":
        if not weights[name]:
            continue
        if asked[name] is None:
            counts: bool | None = True
        else:
            part, sign, bound = asked[name]
            counts = None if worth[part] is None else bool(eval(f"{worth[part]} {sign} {bound}"))
        mine = worth[name]
        if counts is None or (counts and mine is None):
            total = None
        elif counts and total is not None and mine is not None:
            total += weights[name] * mine
    scores = {name: Score(value) for name, value in worth.items()}
    texts = {name: "{} {} {}".format(*one) for name, one in asked.items() if one is not None}
    found = mixed(scores, weights, **texts)
    assert found.value == total
    assert {name: found.parts[name] for name in "abc"} == worth, "the own worth is always logged"
    assert {name for name in found.parts if name.endswith("/gated")} == {f"{name}/gated" for name in texts}


def test_recipes_write_conditions_and_names_of_parts() -> None:
    spec = {
        "name": "mix",
        "parts": {
            "numeric": 1.0,
            "tags": {"name": "format", "weight": 0.1, "if": "numeric >= 1", "pattern": "x"},
        },
    }
    assert build("reward", spec)._gates == {"tags": Gate("numeric", ">=", 1.0)}


def test_the_mix_of_the_page_can_be_built() -> None:
    page = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text(encoding="utf-8")
    (block,) = [
        text for text in page.split("```yaml\n") if text.startswith("reward:\n  name: mix\n  parts:\n    numeric")
    ]
    spec = yaml.safe_load(block.split("```")[0])["reward"]
    with GradingPool(workers=1, timeout_s=30.0) as pool:
        (right, wrong) = asyncio.run(
            as_group_reward(build("reward", spec), pool).score(
                [replace(episode(), turns=[replace(episode().turns[0], text=text)]) for text in ("4", "5")]
            )
        )
    assert (right.value, wrong.value, right.verdict) == (1.0, 0.0, "correct")
    assert list(right.parts)[-3:] == ["format/gated", "tidy/gated", "repetition/gated"]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            "numerik >= 1",
            "parts.format: if 'numerik >= 1': no part 'numerik'; did you mean 'numeric'.; known: numeric,",
        ),
        ("numeric", "if 'numeric'; expected a part, a sign and a number, such as: numeric >= 1"),
        ("numeric >= much", "if 'numeric >= much'; expected a part"),
        ("numeric == 1", "if 'numeric == 1'; expected a part"),
        ("numeric >= nan", "expected a part"),
        (True, "if True; expected a part"),
    ],
)
def test_odd_conditions_are_refused(condition: Any, message: str) -> None:
    parts = {"numeric": 1.0, "format": {"weight": 0.1, "if": condition}}
    with pytest.raises(RecipeError, match=message):
        build("reward", {"name": "mix", "parts": parts})


def test_unknown_channels_are_refused() -> None:
    parts = {"format": {"weight": 0.1, "channel": "kl"}}
    with pytest.raises(RecipeError, match=r"parts.format: channel 'kl'; expected reward or token_rewards"):
        build("reward", {"name": "mix", "parts": parts})


def test_a_part_may_stand_on_the_last_token() -> None:
    """2 tokens: 0.5 of the form on the last one, -1 of repetition there too; the verdict's worth stays the value."""
    scores = {"numeric": RIGHT, "form": Score(0.5), "repetition": Score(0.0, token_rewards=[0.0, -1.0])}
    reward = MixedReward(dict.fromkeys(scores, 2.0), {n: Says(s) for n, s in scores.items()}, {}, ["form"])
    (given,) = asyncio.run(reward.score([episode()]))
    assert (given.value, given.token_rewards, given.parts["form"]) == (2.0, [0.0, -1.0], 0.5)
    alone = MixedReward({"form": 2.0}, {"form": Says(Score(0.5))}, {}, ["form"])
    (silent,) = asyncio.run(alone.score([Trajectory(problem=episode().problem, turns=[], status="done")]))
    assert (silent.value, silent.token_rewards) == (1.0, None), "nothing is lost where there is no token"


def test_parts_of_a_mix_reach_back_by_discounts_of_their_own() -> None:
    """The answer "4 4 4" has 6 tokens, its end included; runs of 2: tokens 2 to 4 repeat and pay -1 each.

    The verdict's 1 is not discounted; -1, -1, -1 and the form's 0.5 on the last token are, by a half for each token.
    From behind: 0.5; -1 + 0.25; -1 - 0.375; -1 - 0.6875; -0.84375; -0.421875; and 1 more for each.
    """
    parts = {
        "numeric": 1.0,
        "repetition": {"weight": 2.0, "window": 2, "penalty": -0.5, "if": "numeric >= 1"},
        "form": {"name": "format", "weight": 0.5, "pattern": ".*", "channel": "token_rewards"},
    }
    tokenizer = make_tokenizer()
    end = tokenizer.eos_token_id
    with GradingPool(workers=1, timeout_s=30.0) as pool:
        played = RolloutWorker(
            engine=ScriptedEngine(tokenizer=tokenizer, options=Scripted(replies=["4 4 4"]), stop_token_ids=[end]),
            chat=Chat(tokenizer),
            env=SingleTurn(),
            reward=as_group_reward(build("reward", {"name": "mix", "parts": parts}), pool),
            options=RolloutOptions(num_generations=2, prompts_per_step=1),
            seed=0,
        )
        problem = Problem(id="a", messages=[{"role": "user", "content": "2+2"}], answer="4")
        (one, _) = wait(played.run_group(problem, "g"))
    (row,) = to_samples(one)
    assert row.reward == 1.0
    assert row.token_rewards[-6:].tolist() == [0.0, 0.0, -1.0, -1.0, -1.0, 0.5]
    algorithm = build(
        "algorithm",
        {"name": "ppo", "lam": 1, "lam_critic": 1, "kl_coef": 0, "discounts": {"reward": 1, "token_rewards": 0.5}},
    )
    (credited, *_) = algorithm.credit([row.assign(values=0.0)])
    expected = [-0.421875, -0.84375, -1.6875, -1.375, -0.75, 0.5]
    assert credited.returns[-6:] == pytest.approx([1 + number for number in expected])


def test_latencies_are_by_part_even_of_one_reward_twice() -> None:
    reward = MixedReward({"a": 1.0, "b": 1.0}, {"a": Says(RIGHT), "b": Says(WRONG)})
    assert reward.latencies() == {"a": [0.5], "b": [0.5]}
