"""A run stops everything it starts, whatever fails on the way; its parts act in the order that is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmrl.engines import hf
from llmrl.errors import RewardError
from llmrl.recipe import Recipe, parse
from llmrl.scoring.manager import GradingPool
from llmrl.sources.online import Online
from llmrl.train.run import Run


def recipe(model: Path, out: Path, **sections: Any) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 3},
            "reward": {"name": "numeric"},
            "algorithm": {"name": "grpo"},
            "engine": {"name": "hf"},
            "rollout": {"num_generations": 2, "prompts_per_step": 1, "max_completion_length": 4, "reward_workers": 1},
            "train": {"max_steps": 1, "output_dir": str(out), "report_to": "none"},
            **sections,
        }
    )


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was closed, in order."""
    found: list[str] = []
    for cls in (hf.HfEngine, GradingPool):
        close = cls.close

        def watched(self: Any, close: Any = close, name: str = cls.__name__) -> None:
            found.append(name)
            close(self)

        monkeypatch.setattr(cls, "close", watched)
    return found


def test_what_was_started_is_closed_where_building_fails(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no source")

    monkeypatch.setattr(Online, "start", fails)
    with pytest.raises(RuntimeError, match="no source"):
        Run(recipe(tiny_model_dir, tmp_path))
    assert closed == ["HfEngine", "GradingPool"], "the last first"


def test_a_reward_that_is_none_starts_no_engine(tiny_model_dir: Path, tmp_path: Path, closed: list[str]) -> None:
    with pytest.raises(RewardError, match="is no reward"):
        Run(recipe(tiny_model_dir, tmp_path, reward={"name": "math:sqrt"}))
    assert closed == ["GradingPool"]


def test_parts_act_in_the_order_that_is_written_down(tiny_model_dir: Path, tmp_path: Path, closed: list[str]) -> None:
    with Run(recipe(tiny_model_dir, tmp_path)) as run:
        names = [type(part).__name__.strip("_") for part in run.after_step]
        assert not closed
    assert names == [
        *("Learners", "Adaptation", "RewardSchedule", "Evaluation", "GoldReward", "Recorder", "Callbacks", "Saver"),
        "Publisher",
    ]
    assert closed == ["HfEngine", "GradingPool"]
    run.close()
    assert closed == ["HfEngine", "GradingPool"], "once"
