"""Samples of episodes: which tokens stand in which sample, and that both hold the same memory after a step."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmrl.rollout.samples import to_samples, with_views
from llmrl.samples import Sample
from llmrl.trajectories import compact
from llmrl.types import Completion, Score, Status, Trajectory, Turn
from tests.builders import QUESTION, episode, turn


def scored(*turns: Any) -> Trajectory:
    return replace(compact(episode(*turns)), score=Score(1.0))


FIRST = turn("a", [3, 4, 5], prompt=[1, 2], logprobs=[-0.5, -1.0, -0.25])
GOES_ON = turn("b", [7], prompt=[1, 2, 3, 4, 5, 6], logprobs=[-2.0])
REWRITTEN = turn("c", [8, 8], prompt=[9], logprobs=[-1.0, -1.5])
EMPTY = turn("", [], prompt=[1, 2])


@pytest.mark.parametrize(
    "turns",
    [(FIRST,), (FIRST, GOES_ON), (FIRST, GOES_ON, REWRITTEN), (EMPTY,), (EMPTY, FIRST), (REWRITTEN, EMPTY)],
)
def test_columns_stay_what_they_were_in_the_memory_of_the_samples(turns: tuple[Any, ...]) -> None:
    before = scored(*turns)
    samples = to_samples(before)
    after = with_views(before, samples)
    assert after == before
    assert to_samples(after) == samples
    for each in after.turns:
        if each.completion.token_ids:
            assert shared(each.prompt_ids, samples, "token_ids")
            assert shared(each.completion.token_ids, samples, "token_ids")
            assert shared(each.completion.logprobs, samples, "sampled_logprobs")


def shared(column: Any, samples: list[Sample], name: str) -> bool:
    return any(np.shares_memory(np.asarray(column), getattr(sample, name)) for sample in samples)


def test_logprobs_that_nobody_recorded_stay_absent() -> None:
    bare = replace(FIRST, completion=replace(FIRST.completion, logprobs=()))
    before = scored(bare)
    assert len(with_views(before, to_samples(before)).turns[0].completion.logprobs) == 0


def test_an_episode_without_samples_stays_as_it_is() -> None:
    before = replace(scored(FIRST), score=None)
    assert with_views(before, to_samples(before)) == before


def test_views_pickle_as_arrays() -> None:
    before = scored(FIRST, GOES_ON)
    after = with_views(before, to_samples(before))
    with pytest.raises(TypeError, match="memoryview"):
        pickle.dumps(after)
    assert pickle.loads(pickle.dumps(compact(after))) == before


# Samples of hand-made episodes


def spoken(prompt: list[int], said: list[int], **options: Any) -> Turn:
    completion = Completion(
        token_ids=said, logprobs=[-0.1 * token for token in said], finish=options.pop("finish", "stop"), version=4
    )
    return Turn(prompt_ids=prompt, completion=completion, text="", **options)


def ended(*turns: Turn, score: Score | None, status: Status = "done") -> Trajectory:
    return Trajectory(problem=QUESTION, turns=turns, status=status, score=score, group="g", episode=2)


def test_entry_t_of_a_row_is_about_token_t() -> None:
    made = to_samples(
        ended(
            spoken([1, 2], [10, 11], reward=0.5),
            spoken([1, 2, 10, 11, 3], [12], reward=0.25),
            score=Score(1.0, "correct"),
        )
    )
    assert len(made) == 1
    row = made[0]
    assert row.token_ids.tolist() == [1, 2, 10, 11, 3, 12]
    assert row.turn_ids.tolist() == [-1, -1, 0, 0, -1, 1]
    assert row.action_mask.tolist() == [False, False, True, True, False, True]
    assert row.sampled_logprobs == pytest.approx([0.0, 0.0, -1.0, -1.1, 0.0, -1.2])
    assert row.reward == 1.75, "the score and what the environment paid"
    assert (row.turn_rewards, row.version, row.correct, row.truncated) == ([0.5, 0.25], 4, True, False)
    assert (row.group, row.episode) == ("g", 2)
    newer = spoken([1, 2, 10, 11, 3], [12])
    newer = replace(newer, completion=replace(newer.completion, version=6))
    (row,) = to_samples(ended(spoken([1, 2], [10, 11]), newer, score=Score(1.0)))
    assert row.version == 4, "as old as its first turn"


def test_a_rewritten_history_begins_a_new_row() -> None:
    made = to_samples(
        ended(
            spoken([1, 2], [10, 11]),
            spoken([1, 2, 10, 11, 3], [12]),
            spoken([1, 9], [13]),  # a summary in place of the first two turns
            spoken([1, 9, 13, 4], [14]),
            score=Score(0.0, "wrong"),
        )
    )
    assert [row.token_ids.tolist() for row in made] == [[1, 2, 10, 11, 3, 12], [1, 9, 13, 4, 14]]
    assert [row.turn_ids.tolist() for row in made] == [[-1, -1, 0, 0, -1, 1], [-1, -1, 2, -1, 3]]
    assert [row.actions for row in made] == [3, 2]
    assert [(row.reward, row.correct) for row in made] == [(0.0, False)] * 2


def test_a_changed_token_of_the_completion_is_a_new_row_too() -> None:
    made = to_samples(ended(spoken([1], [10, 11]), spoken([1, 10, 12, 3], [13]), score=Score(1.0)))
    assert [row.token_ids.tolist() for row in made] == [[1, 10, 11], [1, 10, 12, 3, 13]]
    assert made[1].action_mask.tolist() == [False, False, False, False, True]


def test_the_kept_ids_stand_with_their_tokens() -> None:
    def kept(turn: Turn, *sets: list[int]) -> Turn:
        return replace(turn, completion=replace(turn.completion, support_ids=sets))

    first, second = spoken([1, 2], [10, 11]), spoken([1, 2, 10, 11, 3], [12])
    (row,) = to_samples(ended(kept(first, [10, 7], [11]), kept(second, [12, 5]), score=Score(1.0)))
    assert row.support_ids is not None
    assert row.support_ids.tolist() == [10, 7, 11, 12, 5]
    assert row.support_counts.tolist() == [0, 0, 2, 1, 0, 2]
    (row,) = to_samples(ended(kept(first, [10, 7], [11]), second, score=Score(1.0)))
    assert row.support_ids is None, "of some tokens nobody knows"
    assert "support_counts" not in row.columns


def test_an_episode_without_a_value_teaches_nothing() -> None:
    turn = spoken([1], [10])
    assert to_samples(ended(turn, score=None)) == []
    assert to_samples(ended(turn, score=Score(None, "timeout"))) == []
    assert to_samples(ended(score=Score(1.0))) == []
    assert len(to_samples(ended(turn, score=Score(0.0)))) == 1


def test_what_a_limit_cut_off_says_so_and_no_verdict_is_no_verdict() -> None:
    made = to_samples(ended(spoken([1], [10], finish="length"), score=Score(0.5), status="max_tokens"))[0]
    assert (made.truncated, made.correct) == (True, None)
