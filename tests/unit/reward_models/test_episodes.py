"""Rows for reward models from a run's own episodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl.errors import DataError, RecipeError
from llmrl.plugins import construct
from llmrl.reward_models import episodes
from llmrl.reward_models.recipe import RewardRecipe
from llmrl.reward_models.training_rows import read
from llmrl.run_folder.writer import Logs
from llmrl.types import Score, Trajectory, Verdict
from tests import builders


def played(text: str, reward: float | None, verdict: Verdict | None = None, group: str = "g") -> Trajectory:
    return builders.episode(text, score=Score(reward, verdict), group=group)


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    """Two steps; in the first two groups."""
    logs = Logs(tmp_path, writes=True, share=1.0)
    first = [played("4", 1.0, "correct"), played("5", 0.25, "wrong"), played("6", 0.0, "wrong")]
    second = [played("7", 0.5, group="h"), played("8", 0.5, group="h")]
    several = builders.episode("a", "b", score=Score(2.0, "correct"), group="g", episode=1)
    logs.rollouts(0, [first, second], [])
    logs.rollouts(1, [[played(" ", 3.0, "correct"), several, played("9", -1.0, "wrong")]], [])
    return tmp_path / "rollouts.jsonl"


def test_a_verdict_is_the_label(rollouts: Path) -> None:
    rows = read("rollouts", rollouts)
    labels = {row.answer.response: row.labels for row in rows.kept}
    assert labels == {"4": [1.0], "5": [0.0], "6": [0.0], "9": [0.0]}
    assert rows.rejected == {"not judged right or wrong": 2, "empty response": 1, "not a single answer": 1}
    assert {row.problem for row in rows.kept} == {builders.QUESTION.id}
    assert rows.kept[0].answer.prompt == [dict(message) for message in builders.QUESTION.messages]
    assert len(read("rollouts", rollouts, limit=2).kept) == 2


def test_a_group_gives_its_best_and_its_worst(rollouts: Path) -> None:
    """The group of the second step has a single usable answer: an empty one and a conversation are none."""
    rows = episodes.pairs(rollouts)
    (pair,) = rows.kept
    assert (pair.chosen.response, pair.rejected.response, pair.margin) == ("4", "6", 1.0)
    assert rows.rejected == {"no two answers of a group with different rewards": 2}


def test_a_broken_line_is_named(rollouts: Path) -> None:
    rollouts.write_text("{}\n" + rollouts.read_text())
    with pytest.raises(DataError, match=r"rollouts.jsonl:1"):
        read("rollouts", rollouts)


@pytest.mark.parametrize(("kind", "columns"), [("outcome", "rollouts"), ("verifier", "rollout_pairs")])
def test_each_kind_has_its_own(kind: str, columns: str) -> None:
    values = {"kind": kind, "model": {"model_name_or_path": "m"}, "data": {"train": "rows", "columns": columns}}
    with pytest.raises(RecipeError, match=f"'{columns}': a {kind} model learns from"):
        construct(RewardRecipe, values, "recipe")
