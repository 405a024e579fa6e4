"""The two rewards of constrained text: words that are covered, and a panel that is never paid."""

from __future__ import annotations

import asyncio
from math import log2

import pytest

from llmrl.plugins import build
from llmrl.rewards.coverage import Coverage, forms
from llmrl.rewards.naturalness import Naturalness, measures
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Completion, Problem, Trajectory, Turn

PROBLEM = Problem(id="a", messages=(), info={"words": ["dog", "throw", "carry", "hike"]})


@pytest.mark.parametrize(
    ("text", "value", "verdict"),
    [
        ("The dog carried what hikers were throwing.", 0.75, "wrong"),  # `hikers` is two endings
        ("The dogs carried what a hiker throws.", 1.0, "correct"),
        ("A DOG.", 0.25, "wrong"),
        ("A dogma.", 0.0, "wrong"),
        ("The dog hiked. It carries a throw.", 0.0, "wrong"),  # two sentences
        ("dog throw carry hike " * 8, 0.0, "wrong"),  # 32 words
        ("Dog, throw, carry and hike.", 0.0, "wrong"),  # a list
        ("Write: dog, throw, carry, hike.", 0.0, "wrong"),
        ("They hike with a dog, throw, and carry.", 1.0, "correct"),  # one word stands apart
        ("<think>The dog carried what a hiker throws.", 0.0, "unparsable"),
        ("123 ...", 0.0, "unparsable"),
        ("", 0.0, "unparsable"),
    ],
)
def test_coverage(text: str, value: float, verdict: str) -> None:
    score = Coverage()(PROBLEM, text)
    assert (score.value, score.verdict) == (value, verdict)


def test_the_form_may_be_free() -> None:
    free = Coverage(one_sentence=False, max_words=0)
    assert free(PROBLEM, "The dog hiked. It carries a throw. " * 9).value == 1.0


def test_forms_are_by_spelling() -> None:
    assert {"hiking", "hiked", "hikes", "hike"} <= forms("hike")
    assert {"carried", "carrying", "carries"} <= forms("carry")
    assert {"swimming", "swims"} <= forms("swim")
    assert "swimm" not in forms("swim")


def test_coverage_needs_words() -> None:
    with pytest.raises(ValueError, match="no words"):
        Coverage()(Problem(id="a", messages=(), info={"scene": "sea"}), "a")


def test_measures_worked_by_hand() -> None:
    # the cat saw the cat: 5 words, 3 different; 4 pairs (the cat, cat saw, saw the, the cat), 3 different
    found = measures("The cat saw the cat.")
    assert found["distinct_1"] == 3 / 5
    assert found["distinct_2"] == 3 / 4
    assert found["entropy_1"] == pytest.approx(2 * 2 / 5 * log2(5 / 2) + 1 / 5 * log2(5))
    assert found["entropy_2"] == pytest.approx(1 / 2 * log2(2) + 2 / 4 * log2(4))
    assert (found["words"], found["vocabulary"], found["msttr"]) == (5.0, 3.0, None)
    # two whole stretches of two: (the cat) and (saw the), each all different
    assert measures("the cat saw the cat", stretch=2)["msttr"] == 1.0
    assert measures("a a b c", stretch=2)["msttr"] == (1 / 2 + 2 / 2) / 2


def test_too_short_is_missing_and_repetition_is_low() -> None:
    assert measures("")["distinct_1"] is None
    assert measures("one")["distinct_2"] is None
    assert measures("word " * 100)["entropy_1"] == 0.0
    assert measures("word " * 100)["msttr"] == 1 / 50


def test_the_panel_is_logged_and_cannot_be_paid() -> None:
    completion = Completion(token_ids=[0], logprobs=[0.0], finish="stop", version=0)
    turn = Turn(prompt_ids=[], completion=completion, text="The dogs carried what a hiker throws.")
    with GradingPool(workers=1, timeout_s=5.0) as pool:
        for weight, value in ((0.0, 1.0), (0.5, None)):
            mixed = as_group_reward(
                build("reward", {"name": "mix", "parts": {"coverage": 1.0, "naturalness": weight}}), pool
            )
            (score,) = asyncio.run(mixed.score([Trajectory(problem=PROBLEM, turns=[turn], status="done")]))
            assert score.value == value
            assert score.parts["naturalness/words"] == 7.0
    assert Naturalness()(PROBLEM, "a").value is None
