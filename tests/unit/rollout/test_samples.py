"""Views: after a step its episodes and its samples hold the same memory."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llmrl.rollout.samples import to_samples, with_views
from llmrl.samples import Sample
from llmrl.trajectories import compact
from llmrl.types import Score, Trajectory
from tests.builders import episode, turn


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
