"""WebRL in runs of a real policy whose environment rewrites the history at each turn: several samples, one episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from llmrl.protocols import Env
from llmrl.recipe import Recipe
from llmrl.types import Message, Observation, Problem
from tests.integration import test_archer
from tests.integration.test_archer import run, steps


@dataclass
class Page:
    """Three turns, each with a prompt of its own; the last earns 1 for an answer that begins with no capital."""

    turn: int = 0

    async def reset(self) -> Observation:
        return Observation(messages=[{"role": "user", "content": "page 0"}])

    async def step(self, message: Message) -> Observation:
        self.turn += 1
        reward = float(self.turn == 3 and not message["content"][:1].isupper())
        page: Message = {"role": "user", "content": f"page {self.turn}"}
        return Observation(messages=[page], reward=reward, done=self.turn == 3, whole=True)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Pages:
    def make(self, problem: Problem) -> Env:
        return Page()


def recipe(model: Path, out: Path, **algorithm: Any) -> Recipe:
    made = test_archer.recipe(model, out, algorithm={"name": "webrl", **algorithm})
    return replace(made, env=Pages(), source=replace(made.source, proposals=0, first_success=True))  # type: ignore[type-var]


WIDE: Mapping[str, float] = {"replay_low": 0.0, "replay_high": 0.9999}


def test_a_run_over_rewritten_histories_resumes_exactly(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, **WIDE)
    whole = run(made, "whole")
    run(replace(made, train=replace(made.train, max_steps=2)), "parts")
    parts = run(made, "parts", resume=True)
    assert steps(parts) == steps(whole)
    for name in ("model.safetensors", "critic/model.safetensors", "critic/heads.safetensors"):
        first, second = (load_file(folder / "final" / name) for folder in (whole, parts))
        assert all(torch.equal(first[key], second[key]) for key in first), name
    first, *_, last = steps(whole)
    assert {"critic/loss/v1", "critic/loss/v2", "critic/v1", "log_ratio", "loss", "webrl/brier"} <= last.keys()
    assert first["critic/loss/v1"] > 0.6, "a new head says 0.5, whose cross-entropy is 0.69"
    assert abs(first["log_ratio"]) < 1e-4, "the policy begins as its reference"
    assert any(step["webrl/replayed"] > 0 for step in steps(whole))


def test_the_released_form_runs(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, form="released", critic_warmup=1, **WIDE)
    first, *_, last = steps(run(made, "released"))
    assert "loss" not in first, "the critic learns alone in its warm-up"
    assert last["loss"] > 0, "a square, of what the critic has taught by now"
