"""The replay buffer and its source: draws, files, resume, ranks, proposals."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import nan
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from llmrl.errors import CheckpointError
from llmrl.rollout import replay_file
from llmrl.rollout.replay_buffer import ReplayBuffer
from llmrl.samples import Sample
from tests.builders import sample


def played(group: str, turns: int, reward: float = 0.0, **facts: Any) -> Sample:
    """A prompt of two tokens, then turns of two tokens each with an observed token between them."""
    turn_ids = [-1, -1]
    for turn in range(turns):
        turn_ids += [turn, turn, -1]
    turn_ids = turn_ids[:-1]
    given = {"turn_rewards": [reward] + [0.0] * (turns - 1), **facts}
    return sample(group=group, reward=reward, token_ids=list(range(len(turn_ids))), turn_ids=turn_ids, **given)


def buffer(folder: Path, capacity: int = 100, writes: bool = True) -> ReplayBuffer:
    return ReplayBuffer(folder, capacity, writes)


def test_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        played("a", 2, 0.1, parts={"x": 0.5}, correct=True, status="max_turns", truncated=True, version=3),
        played("b", 1, support_ids=[[], [], [1, 2], [3]]),
        played("c", 1, token_rewards=[0.0, 0.0, 0.25, -0.1], numbers={"margin": 0.3}),
    ]
    rows.append(replace(rows[0], dtype=np.float32, columns={**rows[0].columns, "sampled_logprobs": np.float32(-0.5)}))
    checksum = replay_file.write(tmp_path / "x.safetensors", rows)
    read = replay_file.read(tmp_path / "x.safetensors", checksum)
    assert read == rows
    assert [row.dtype for row in read] == [row.dtype for row in rows]


def test_the_oldest_episodes_leave(tmp_path: Path) -> None:
    """3 + 2 turns fit into 5; with 2 more the first episode leaves, and with it the file of step 0."""
    kept = buffer(tmp_path, capacity=5)
    kept.extend(0, [played("a", 3)])
    kept.extend(1, [played("b", 2)])
    assert kept.turns == 5
    kept.extend(2, [played("c", 2), played("d", 1, nan)])
    assert [episode.samples[0].group for episode in kept.episodes] == ["b", "c"]
    assert kept.turns == 4
    assert list(kept.state()["files"]) == ["1", "2"]
    assert len(list(tmp_path.glob("step-*"))) == 3, "an older checkpoint may need the first"


def test_a_turn_is_drawn_as_often_as_any_other(tmp_path: Path) -> None:
    """Episodes of 1 and of 4 turns: 2.5 turns on average, so 4,000 draws for 10,000 turns, half of each."""
    kept = buffer(tmp_path)
    kept.extend(0, [played("short", 1), played("long", 4)])
    drawn = Counter(episode.samples[0].group for episode in kept.draw(99, 10_000, 0.0, Random(0)))
    assert drawn.total() == 4000
    assert drawn["short"] == pytest.approx(2000, abs=130)  # four standard deviations of a binomial


def test_states_before_turns_are_drawn_alike(tmp_path: Path) -> None:
    kept = buffer(tmp_path)
    kept.extend(0, [played("short", 1), played("long", 4)])
    drawn = Counter(len(prompt) for prompt in kept.observations(5000, Random(0)))
    assert set(drawn) == {2, 5, 8, 11}
    assert drawn[2] == pytest.approx(2000, abs=140)  # the first turns of both
    assert list(kept.observations(1, Random(0))[0]) in ([0, 1], list(range(5)), list(range(8)), list(range(11)))


def test_the_best_are_drawn_alone(tmp_path: Path) -> None:
    """The quantile 0.9 of returns 0 to 9 is 8.1."""
    kept = buffer(tmp_path)
    kept.extend(0, [played(str(i), 1, float(i)) for i in range(10)])
    assert {episode.earned for episode in kept.draw(99, 50, 0.9, Random(0))} == {9.0}
    assert len({episode.earned for episode in kept.draw(99, 500, 0.0, Random(0))}) == 10


def test_all_that_reach_the_quantile_are_drawn(tmp_path: Path) -> None:
    """The median of returns 0, 1, 1, 1 is 1; of equal ones every episode reaches it."""
    kept = buffer(tmp_path)
    kept.extend(0, [played(str(i), 1, float(i > 0)) for i in range(4)])
    assert {episode.samples[0].group for episode in kept.draw(99, 50, 0.5, Random(0))} == {"1", "2", "3"}


def test_the_best_of_each_prompt_are_drawn(tmp_path: Path) -> None:
    """Episodes earn 0 to 4 from one start and 10 to 14 from another, where the best fifth of all come from."""
    kept = buffer(tmp_path)
    for start, returns in ((7, range(5)), (8, range(10, 15))):
        facts = {"token_ids": [start, 1, 2], "turn_ids": [-1, 0, 0]}
        kept.extend(0, [sample(group=str(i), reward=float(i), turn_rewards=[float(i)], **facts) for i in returns])
    assert {episode.earned for episode in kept.draw(99, 50, 0.8, Random(0))} == {13.0, 14.0}
    assert {episode.earned for episode in kept.draw(99, 50, 0.8, Random(0), by_prompt=True)} == {4.0, 14.0}


def test_a_resume_reads_the_files_and_forgets_later_steps(tmp_path: Path) -> None:
    first = buffer(tmp_path, capacity=6)
    for step in range(4):
        first.extend(step, [played(f"{step}", 2)])
    state = first.state()
    first.extend(4, [played("lost", 2)])
    again = buffer(tmp_path, capacity=6)
    again.restore(state)
    assert [list(e.samples) for e in again.episodes] == [[played(f"{step}", 2)] for step in (1, 2, 3)]
    assert [episode.step for episode in again.episodes] == [1, 2, 3]
    assert again.turns == 6
    assert sorted(path.name for path in tmp_path.glob("step-*"))[-1] == "step-000003.safetensors"
    again.extend(4, [played("other", 2)])
    assert again.state()["files"].keys() == {"2", "3", "4"}


def test_a_dropped_step_is_taken_back(tmp_path: Path) -> None:
    kept = buffer(tmp_path, capacity=4)
    kept.extend(0, [played("a", 2)])
    before = kept.state()
    kept.mark()
    kept.extend(1, [played("b", 3)])
    kept.rewind()
    assert ([e.samples[0].group for e in kept.episodes], kept.turns, kept.state()) == (["a"], 2, before)


@pytest.mark.parametrize("harm", ["missing", "changed"])
def test_a_damaged_file_is_told(tmp_path: Path, harm: str) -> None:
    first = buffer(tmp_path)
    first.extend(0, [played("a", 2)])
    path = tmp_path / "step-000000.safetensors"
    if harm == "missing":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"step-000000\.safetensors.*--resume-from"):
        buffer(tmp_path).restore(first.state())


def test_an_unjudged_episode_is_not_kept(tmp_path: Path) -> None:
    kept = buffer(tmp_path)
    kept.extend(0, [played("a", 2, nan)])
    assert (kept.episodes, kept.turns, kept.draw(99, 5, 0.0, Random(0)), kept.observations(5, Random(0))) == (
        [],
        0,
        [],
        [],
    )
    assert kept.state() == {"files": {}}


def test_the_first_success_of_each_prompt_is_remembered(tmp_path: Path) -> None:
    """Prompts are [0, 1] and [5, 1]; a failure and later successes are not stored, and a resume knows the same."""
    kept = ReplayBuffer(tmp_path, 3, True, first_success=True)
    other = {"token_ids": [5, 1, 2, 3], "turn_ids": [-1, -1, 0, 0]}
    kept.extend(0, [played("a", 1), played("b", 1, 1.0), played("c", 1, 1.0)])
    kept.extend(1, [played("d", 2, 1.0), replace(played("e", 1, 1.0), columns={**played("e", 1).columns, **other})])
    assert [episode.samples[0].group for episode in kept.episodes] == ["b", "e"]
    assert [len(kept.draw(99, turns, 0.0, Random(0))) for turns in (1, 2, 9)] == [1, 2, 2], "each at most once"
    assert [episode.step for episode in kept.draw(1, 9, 0.0, Random(0))] == [0], "this step's own is no earlier one"
    again = ReplayBuffer(tmp_path, 3, True, first_success=True)
    again.restore(kept.state())
    assert again.episodes == kept.episodes
    again.extend(2, [played("f", 1, 1.0)])
    assert len(again.episodes) == 2
