from __future__ import annotations

import numpy as np

from llmrl.run_folder.token_numbers import of_turns
from llmrl.samples import Sample
from tests.builders import episode, sample, turn


def row(turns: list[int], **columns: list[float]) -> Sample:
    return sample(token_ids=[0] * len(turns), turn_ids=turns, **columns)


TWO = episode(turn(ids=(5, 6)), turn(ids=(7,)))


def test_a_turn_of_one_advantage_has_one_number() -> None:
    rows = [row([-1, 0, 0, -1, 1], advantages=[0, 0.5, 0.5, 0, -1 / 3])]
    assert of_turns(TWO, rows) == [{"advantages": 0.5}, {"advantages": -0.333333}]
    rows = [row([-1, 0, 0, -1, 1], advantages=[0, 0.5, 0.25, 0, 0])]
    assert of_turns(TWO, rows) == [{"advantages": [0.5, 0.25]}, {"advantages": 0.0}]


def test_the_gap_is_the_trainers_less_the_engines() -> None:
    known = {"sampled_logprobs": [0, -1.0, -2.0], "old_logprobs": [0, -1.5, -1.99], "old_entropy": [9, 0.1, 0.2]}
    (first, second) = of_turns(TWO, [row([-1, 0, 0], **known)])
    assert (first, second) == ({"trainer_gaps": [-0.5, 0.01], "entropies": [0.1, 0.2]}, {})
    other = sample(token_ids=[0, 1, 2], turn_ids=[-1, 0, 0], semantics="renormalised", **known)
    assert "trainer_gaps" not in of_turns(TWO, [other])[0], "they describe two distributions"


def test_turns_of_agents_are_told_apart() -> None:
    first, second = turn(ids=(5,), agent="a"), turn(ids=(6,), agent="b")
    theirs = sample(token_ids=[1, 6], turn_ids=[-1, 0], advantages=[0, 2.0], agent="b")
    assert of_turns(episode(first, second), [theirs]) == [{}, {"advantages": 2.0}]


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert of_turns(TWO, []) == []
    assert of_turns(TWO, [row([-1, 0, 0])]) == []
    torn = row([-1, 0], advantages=[0, 1.0])  # the turn has two tokens
    assert of_turns(TWO, [torn]) == []
    assert of_turns(TWO, [row([-1, 0, 0], advantages=[0, np.nan, np.nan])])[0]["advantages"] != 0
