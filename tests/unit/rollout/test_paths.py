"""Trees of turns as samples: each turn is in one sample, behind the turn that it extends."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from llmrl.ops.credit import average
from llmrl.rollout.samples import paths, to_samples, with_views
from llmrl.trajectories import compact
from llmrl.types import Score, Turn
from tests.builders import episode, turn


def after(before: Turn | None, added: list[int], sampled: list[int]) -> Turn:
    """A turn whose prompt is all of another's tokens and then some."""
    past = [] if before is None else [*before.prompt_ids, *before.completion.token_ids]
    return turn("x", sampled, prompt=[*past, *added], logprobs=[-1.0] * len(sampled))


ROOT = after(None, [1], [2])
LEFT, RIGHT = after(ROOT, [3], [4]), after(ROOT, [5], [6])


@pytest.mark.parametrize(
    ("turns", "wanted"),
    [
        ([], []),
        ([ROOT, LEFT], [[0, 1]]),
        ([ROOT, LEFT, RIGHT], [[0, 1], [2]]),
        ([ROOT, LEFT, RIGHT, after(LEFT, [7], [8])], [[0, 1, 3], [2]]),
        ([ROOT, LEFT, RIGHT, after(RIGHT, [7], [8]), after(LEFT, [7], [8])], [[0, 1, 4], [2, 3]]),
        ([ROOT, ROOT, LEFT], [[0], [1, 2]]),  # the same again: the last is gone on from
        ([ROOT, after(None, [9], [9]), LEFT], [[0, 2], [1]]),
    ],
)
def test_turns_go_on_from_what_they_extend(turns: list[Turn], wanted: list[list[int]]) -> None:
    assert paths(turns) == wanted


def test_any_tree_is_learned_from_once() -> None:
    random = Random(0)
    for _ in range(30):
        turns: list[Turn] = []
        for number in range(random.randint(1, 9)):
            before = random.choice([None, *turns])
            turns.append(after(before, [100 + number], [200 + number] * random.randint(1, 3)))
        played = replace(compact(episode(*turns)), score=Score(1.0))
        samples = to_samples(played)
        learned = [(t, token) for s in samples for t, token in zip(s.turn_ids, s.token_ids, strict=True) if t >= 0]
        assert sorted(learned) == sorted((n, token) for n, t in enumerate(turns) for token in t.completion.token_ids)
        for sample in samples:
            for number in set(sample.turn_ids.tolist()) - {-1}:
                begin = len(turns[number].prompt_ids)
                assert sample.token_ids[:begin].tolist() == list(turns[number].prompt_ids), "what the engine was fed"
        leaves = [t for t in turns if not any(other.observed_after(t) is not None for other in turns)]
        assert len(samples) == len(leaves)
        assert with_views(played, samples) == played
        assert sum(float(s.weights.sum()) for s in average(samples, "sequence")) == pytest.approx(1.0)
