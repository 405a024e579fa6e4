"""Logged rewards of several turns, recomputed from the lines of rollouts.jsonl alone."""

from __future__ import annotations

import json
from statistics import fmean, stdev
from typing import Any

import pytest

from llmrl.rollout.filters import informative
from llmrl.run_folder.records import EpisodeRecord
from llmrl.train.metrics import rollout_metrics
from llmrl.types import Score, Trajectory
from tests.builders import episode, turn

PAID = [[[0.5, 1.0], [1.5]], [[0.0, 0.0], [0.0]], [[1.0], [0.0, 0.25]]]  # by group, episode and turn


def groups() -> list[list[Trajectory]]:
    """Three groups; the score is 0.5 in the second, and one of the third has none."""
    made = []
    for number, group in enumerate(PAID):
        episodes = []
        for i, rewards in enumerate(group):
            value = None if (number, i) == (2, 0) else 0.5 if number == 1 else 0.0
            score = Score(value, "error" if value is None else None)
            turns = [turn("a", reward=reward) for reward in rewards]
            status: Any = "max_turns" if len(rewards) > 1 else "done"
            facts: dict[str, Any] = {"group": f"g{number}", "episode": i, "metrics": {"moves": float(len(rewards))}}
            episodes.append(episode(*turns, score=score, status=status, **facts))
        made.append(episodes)
    return made


def test_the_log_is_what_the_turns_say() -> None:
    played = groups()
    lines = [
        json.loads(json.dumps(EpisodeRecord(step=0, trajectory=one, tokens=len(one.turns)).to_json()))
        for group in played
        for one in group
    ]
    by_group: dict[str, list[float]] = {}
    for line in lines:
        if line["value"] is not None:
            earned = line["value"] + sum(each["reward"] for each in line["turns"])
            assert line["reward"] == earned
            by_group.setdefault(line["group"], []).append(earned)
    values = [value for group in by_group.values() for value in group]
    metrics = rollout_metrics(played)
    assert values == [1.5, 1.5, 0.5, 0.5, 0.25]
    assert metrics["reward"] == pytest.approx(fmean(values))
    assert metrics["reward_std"] == pytest.approx(stdev(values))
    assert metrics["frac_reward_zero_std"] == 1.0, "of every group all that was earned is equal"
    assert [informative(group) for group in played] == [False, False, False]
    assert metrics["turns/mean"] == 1.5
    assert (metrics["status/max_turns_frac"], metrics["status/done_frac"]) == (0.5, 0.5)
    assert metrics["env/moves"] == 1.5


def test_different_rewards_of_turns_make_a_group_informative() -> None:
    equal, other = (episode(turn("a", reward=reward), score=Score(0.0)) for reward in (1.0, 2.0))
    assert informative([equal, other])
    assert rollout_metrics([[equal, other]])["frac_reward_zero_std"] == 0.0
    judged = [equal, episode(turn("a", reward=2.0), score=Score(0.0, "wrong"))]
    assert informative(judged), "where not all are judged, rewards decide"
