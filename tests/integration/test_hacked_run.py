"""Training with a second grader: it sees a proxy that is hacked, and it changes nothing that is learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmrl import tiny
from llmrl.errors import TrainingError
from llmrl.recipe import Recipe, parse
from llmrl.train.loop import train
from llmrl.train.run import Run
from llmrl.types import Score, Trajectory

TOKENS = 64  # of 102: half of what a random model says ends before


@dataclass(frozen=True)
class Length:
    """The proxy: pays for tokens, which somebody took for effort."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(_tokens(one) / TOKENS) for one in group]


@dataclass(frozen=True)
class Ended:
    """The truth: right is an answer of its own, which ended before the limit cut it off."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(float(not one.truncated), "wrong" if one.truncated else "correct") for one in group]


def _tokens(one: Trajectory) -> int:
    return len(one.turns[-1].completion.token_ids)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 102 tokens, one of which ends an answer."""
    return tiny.make(tmp_path_factory.mktemp("model"), vocab="arithmetic", hidden=64, layers=2)


def recipe(model: Path, out: Path, reward: str, name: str, **more: Any) -> Recipe:
    tree: dict[str, Any] = {
        "model": {"policy": str(model)},
        "data": {"name": "arithmetic", "high": 3},
        "reward": {"name": f"{__name__}:{reward}"},
        "algorithm": {"name": "grpo"},
        "engine": {"name": "hf"},
        "rollout": {
            "num_generations": 8,
            "prompts_per_step": 4,
            "max_completion_length": TOKENS,
            "max_prompt_length": 32,
            "reward_workers": 1,
        },
        "train": {
            "max_steps": 14, "save_steps": 0, "output_dir": str(out), "run_name": name, "report_to": "none",
            "learning_rate": 3e-3,
        },
    }  # fmt: skip
    for section, values in more.items():
        tree[section] = {**tree.get(section, {}), **values}
    return parse(tree)


AUDIT = {"reward": {"name": f"{__name__}:Ended"}, "share": 1.0, "window": 8}


def metrics(out: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()]


def go(made: Recipe, resume: bool = False) -> None:
    with Run(made, resume=resume) as run:
        train(run)


@pytest.fixture(scope="module")
def watched(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run `watched`, rewarded for length and compared with a gold reward."""
    out = tmp_path_factory.mktemp("runs")
    go(recipe(model, out, "Length", "watched", audit=AUDIT))
    return out


def test_a_proxy_that_is_hacked_sets_the_alarm_off_and_nothing_else_is_changed(
    model: Path, watched: Path, tmp_path: Path
) -> None:
    lines = metrics(watched, "watched")
    assert lines[-1]["reward"] > lines[0]["reward"], "the training reward rises"
    assert lines[-1]["audit/true_mean"] < lines[0]["audit/true_mean"], "and the gold reward falls"
    assert "audit/alarm" not in lines[6]
    assert any(line["audit/alarm"] == 1.0 for line in lines[7:]), [line["audit/divergence"] for line in lines[7:]]
    assert all(line["audit/agreement"] < 0.5 for line in lines if line["audit/true_mean"] > 0.0)
    episode = json.loads((watched / "watched" / "rollouts.jsonl").read_text().splitlines()[0])
    assert episode["audit"]["verdict"] in ("correct", "wrong")

    go(recipe(model, tmp_path, "Length", "unwatched"))
    assert not any(
        name.startswith(("audit/", "time/audit")) for line in metrics(tmp_path, "unwatched") for name in line
    )
    runs = (watched / "watched", tmp_path / "unwatched")
    weights = [load_file(run / "final" / "model.safetensors") for run in runs]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items()), "to the bit"


def test_a_reward_that_means_what_it_pays_sets_nothing_off(model: Path, tmp_path: Path) -> None:
    go(recipe(model, tmp_path, "Ended", "sound", audit=AUDIT))
    lines = metrics(tmp_path, "sound")
    assert lines[-1]["audit/true_mean"] > lines[0]["audit/true_mean"]
    assert {line.get("audit/alarm", 0.0) for line in lines} == {0.0}
    assert {line["audit/agreement"] for line in lines} == {1.0}


def test_a_run_that_an_alarm_stopped_is_saved_and_goes_on_if_told_to(
    model: Path, watched: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"step \d+: since step 0 the training .* It was saved in ") as stopped:
        go(recipe(model, tmp_path, "Length", "stopped", audit={**AUDIT, "stop": True}))
    first = int(str(stopped.value).split("step ")[1].split(":")[0])
    assert json.loads((tmp_path / "stopped" / "manifest.json").read_text())["status"].startswith(
        "stopped: TrainingError"
    )
    assert len(metrics(tmp_path, "stopped")) == first + 1
    go(recipe(model, tmp_path, "Length", "stopped", audit=AUDIT), resume=True)
    names = ("audit/alarm", "audit/divergence", "audit/proxy_mean", "audit/true_mean", "audit/agreement")
    lines = metrics(watched, "watched"), metrics(tmp_path, "stopped")
    told = [[{name: line.get(name) for name in names} for line in run] for run in lines]
    assert told[0] == told[1]
