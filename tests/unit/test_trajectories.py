"""Token columns as arrays: what they are taken apart into and made of, and what siblings share."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrl.train import state_file
from llmrl.trajectories import compact, from_tree, share_prompts, to_tree
from llmrl.types import Completion, Problem, Ragged, Score, Trajectory, Turn

PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "1+1="}], answer="2")
SAID = Completion(
    token_ids=array("i", [5, 2]),
    logprobs=array("f", [-0.1, -1e-30]),
    finish="stop",
    version=3,
    versions=array("i", [3, 4]),
    semantics="renormalised",
    support_ids=Ragged.of([[5, 6], [2]]),
)
TURN = Turn(
    prompt_ids=array("i", [1, 9]), completion=SAID, text="2", reply=[{"role": "user", "content": "é"}], reward=0.5
)
SCORE = Score(
    0.1,
    "correct",
    {"a": 1 / 3, "b": None},
    steps=[0.5],
    step_ends=[1],
    token_rewards=array("d", [0.0, 0.1]),
    reason="r",
)
WHOLE = Trajectory(
    problem=PROBLEM, turns=[TURN, replace(TURN, text="", reply=())], status="done", score=SCORE, group="0/p", episode=1
)


def beginning(prompt: Sequence[int], episode: int) -> Trajectory:
    return replace(WHOLE, turns=[replace(TURN, prompt_ids=prompt), TURN], episode=episode)


@pytest.mark.parametrize("sets", [[], [[]], [[5, 6], [], [2]], [array("i", [7]), (8, 9)]])
def test_ragged_is_the_sets_it_was_made_of(sets: Sequence[Sequence[int]]) -> None:
    ragged = Ragged.of(sets)
    assert [list(members) for members in ragged] == [list(members) for members in sets]
    assert len(ragged) == len(sets)
    assert [list(members) for members in ragged[1:]] == [list(members) for members in sets[1:]]
    assert np.diff(np.asarray(ragged.ends), prepend=0).tolist() == [len(members) for members in sets]
    with pytest.raises(IndexError):
        ragged[len(sets)]
    if sets:
        assert list(ragged[-1]) == list(sets[-1])


def test_taken_apart_and_put_together_it_is_the_same() -> None:
    for one in (WHOLE, replace(WHOLE, score=None), replace(WHOLE, turns=[], status="error", reason="broken")):
        tree = to_tree(one)
        assert "problem" not in tree
        assert from_tree(tree, PROBLEM) == one
    assert to_tree(WHOLE)["turns"][0]["completion"]["token_ids"] is SAID.token_ids, "no column is copied"


def test_a_checkpoint_gives_it_back_to_the_bit(tmp_path: Path) -> None:
    state_file.write(tmp_path, {"pending": [[to_tree(WHOLE)]]})
    found = from_tree(state_file.read(tmp_path)["pending"][0][0], PROBLEM)
    assert found == WHOLE
    assert [type(value) for value in (found.turns[0].completion.support_ids, found.turns[0].completion.logprobs)] == [
        Ragged,
        array,
    ]


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        from_tree({**to_tree(WHOLE), "colour": "red"}, PROBLEM)


def test_lists_become_arrays() -> None:
    said = replace(SAID, token_ids=[5, 2], versions=[3, 4], support_ids=[(5, 6), (2,)])
    lists = replace(WHOLE, turns=[replace(TURN, prompt_ids=[1, 9], completion=said)])
    assert compact(lists) == replace(WHOLE, turns=[TURN])
    assert compact(WHOLE) == WHOLE
    with pytest.raises(OverflowError):
        compact(replace(WHOLE, turns=[replace(TURN, prompt_ids=[2**31])]))


def test_siblings_share_the_prompt_that_they_have_in_common() -> None:
    other = array("i", [1, 8])
    prompts = [array("i", [1, 9]), array("i", [1, 9]), other, array("i", [1, 9])]
    group = [replace(WHOLE, turns=[], status="error"), *(beginning(p, i) for i, p in enumerate(prompts))]
    shared = share_prompts(group)
    assert shared == group
    assert [one.turns[0].prompt_ids is prompts[0] for one in shared[1:]] == [True, True, False, True]
    assert share_prompts([]) == []


def test_a_group_is_pickled_by_its_bytes() -> None:
    """Ranks exchange groups: 8 bytes a token, one problem and one prompt for all siblings."""
    prompt, tokens = array("i", range(4000)), 5000
    problem = replace(PROBLEM, answer="x" * 10_000)

    def episode(number: int) -> Trajectory:
        ids, logprobs = array("i", range(tokens)), array("f", bytes(4 * tokens))
        said = Completion(token_ids=ids, logprobs=logprobs, finish="stop", version=0)
        turn = Turn(prompt_ids=prompt, completion=said, text="")
        return Trajectory(problem=problem, turns=[turn], status="done", group="g", episode=number)

    group = [episode(number) for number in range(8)]
    data = pickle.dumps(group)
    assert len(data) < 8 * tokens * 8 + 4 * len(prompt) + len(problem.answer) + 10_000
    found = pickle.loads(data)
    assert found == group
    assert all(one.problem is found[0].problem for one in found)
    assert all(one.turns[0].prompt_ids is found[0].turns[0].prompt_ids for one in found)
