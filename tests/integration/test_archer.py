"""ArCHer in runs of a real policy over several turns: exact resume, one forward pass for all turns, two Q and two V."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmrl.algorithms.archer import ArCHer
from llmrl.batch import collate
from llmrl.engines.hf import Hf
from llmrl.protocols import Env
from llmrl.recipe import Recipe, parse
from llmrl.samples import Sample
from llmrl.train.learners import Learners
from llmrl.train.loop import train
from llmrl.train.parallel import accelerator
from llmrl.train.run import Run
from llmrl.types import Completion, Message, Observation, Problem


@dataclass
class Echo:
    """Three turns; each earns 1 for an answer that begins with a small letter, else loses 1."""

    turn: int = 0

    async def reset(self) -> Observation:
        return Observation(messages=[{"role": "user", "content": "say"}])

    async def step(self, message: Message) -> Observation:
        self.turn += 1
        reward = 1.0 if message["content"][:1].islower() else -1.0
        return Observation(messages=[{"role": "user", "content": "more"}], reward=reward, done=self.turn == 3)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Echoes:
    def make(self, problem: Problem) -> Env:
        return Echo()


@dataclass(frozen=True)
class Brief(Hf):
    """An engine of the random model that takes what its limit cut off as ended: so an episode has several turns."""

    def start(self, model: str, **options: Any) -> Any:
        engine: Any = super().start(model, **options)
        generate = engine.generate

        async def ended(prompt_ids: Any, sampling: Any) -> Completion:
            completion: Completion = await generate(prompt_ids, sampling)
            return replace(completion, finish="stop")

        engine.generate = ended
        return engine


SMALL = {"critic_warmup": 1, "critic_steps": 3, "actor_steps": 2, "token_baseline": True}


def recipe(model: Path, out: Path, algorithm: Mapping[str, Any] = SMALL, max_turns: int = 3, **options: Any) -> Recipe:
    return parse(
        {
            "model": {"policy": str(model)},
            "data": {"name": "arithmetic", "high": 9},
            "env": {"name": "tests.integration.test_archer:Echoes"},
            "reward": {"name": "format", "pattern": "never"},
            "algorithm": {"name": "archer", **algorithm},
            "critic": {"learning_rate": 1e-3},
            "engine": {"name": "tests.integration.test_archer:Brief"},
            "source": {"name": "replay", "capacity": 24, "turns": 12, "proposals": 6},
            "rollout": {
                "num_generations": 2,
                "prompts_per_step": 2,
                "max_turns": max_turns,
                "max_completion_length": 4,
                "max_prompt_length": 48,
                "max_reply_length": 48,
                "reward_workers": 1,
            },
            "train": {
                "max_steps": 4,
                "save_steps": 2,
                "learning_rate": 1e-3,
                "output_dir": str(out),
                "report_to": "none",
                **options,
            },
        }
    )


def run(made: Recipe, name: str, resume: bool = False) -> Path:
    with Run(made, name=name, resume=resume) as running:
        train(running)
        return running.folder


def steps(folder: Path) -> list[dict[str, float]]:
    """The metrics of each step, without what only a clock decides."""
    timed = ("time/", "reward_latency/", "perf/tokens_per_sec", "step_time", "sync/seconds")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(timed)} for line in lines]


def test_a_run_resumes_exactly(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path)
    whole = run(made, "whole")
    run(replace(made, train=replace(made.train, max_steps=2)), "parts")
    parts = run(made, "parts", resume=True)
    assert steps(parts) == steps(whole)
    for name in ("model.safetensors", "critic/model.safetensors", "critic/heads.safetensors"):
        first, second = (load_file(folder / "final" / name) for folder in (whole, parts))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
    first, *_, last = steps(whole)
    assert "loss" not in first, "the critic learns alone in its warm-up"
    assert {"critic/loss/q1", "critic/loss/v2", "critic/loss/baseline", "loss", "overestimate/mean"} <= last.keys()
    assert last["replay/turns"] == 24.0
    assert last["replay/proposals"] == 6.0


def test_a_limit_of_turns_is_not_the_end_of_the_task(tiny_model_dir: Path, tmp_path: Path) -> None:
    made = recipe(tiny_model_dir, tmp_path, max_turns=2, max_steps=2)
    assert {step["archer/cut"] for step in steps(run(made, "cut"))} == {1.0}


@pytest.fixture
def learners(tiny_model_dir: Path, tmp_path: Path) -> Learners:
    made = recipe(tiny_model_dir, tmp_path)
    made = replace(made, critic=replace(made.critic, zero_init=False))
    torch.manual_seed(0)
    return Learners(made, accelerator(made.train), made.algorithm.needs())


def row(token_ids: list[int], turn_ids: list[int], **facts: Any) -> Sample:
    turns = max(turn_ids) + 1
    given: dict[str, Any] = {"group": "g", "episode": 0, "reward": 1.0, "turn_rewards": [0.5] * turns} | facts
    return Sample(**given, columns={"token_ids": token_ids, "turn_ids": turn_ids})


def test_a_row_has_the_values_of_each_of_its_turns(learners: Learners) -> None:
    """V and Q of a turn are those of a row that ends behind it; a copy is the critic until that has learned."""
    ids, turns = [65, 66, 67, 68, 69, 70, 71], [-1, 0, 0, -1, 1, 1, -1]
    critic, algorithm = learners["critic"], ArCHer(token_baseline=True)
    whole, first = (row(ids, turns), row(ids[:4], turns[:4]))
    read = learners.annotate([whole, first], algorithm.needs())
    with torch.no_grad():
        new = critic.forward(collate([whole], pack=False), 1)
    q = torch.minimum(new.next_heads["q1"], new.next_heads["q2"])
    v = torch.minimum(new.heads["v1"], new.heads["v2"])
    for place in (1, 2):
        assert read[0].next_values[place] == pytest.approx(float(q[0, place]), abs=1e-6)
        assert read[0].values[place] == pytest.approx(float(v[0, place]), abs=1e-6)
        assert read[0].next_values[place] == pytest.approx(read[1].next_values[place], abs=1e-6)
        assert read[0].baselines[place] == pytest.approx(float(new.heads["w"][0, place]), abs=1e-6)
    batch = collate(algorithm.credit(read[:1]), pack=False)
    aim = algorithm.aim(new, batch, "v1")
    assert aim[0, 2].item() == pytest.approx(0.5 + 0.95 * float(new.heads["v1"][0, 4]), abs=1e-6)
    assert aim[0, 5].item() == pytest.approx(0.5)
