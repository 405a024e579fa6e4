"""Benchmarks of programs: answers run against their tests, and pass@k counts them without bias."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import comb
from pathlib import Path
from typing import Any

import pytest

from llmrl import plugins
from llmrl.aio import wait
from llmrl.evaluation.evaluate import Plan, evaluate
from llmrl.evaluation.generators import Played
from llmrl.protocols import Benchmark
from llmrl.scoring.manager import GradingPool, as_group_reward
from llmrl.types import Completion, Problem, Sampling, Trajectory, Turn
from tests.unit.data.test_livecodebench import PROGRAM

FUNCTIONS: Benchmark = replace(plugins.build("benchmark", "humaneval"), data={"name": "humaneval", "split": "tiny"})
SENTENCES: Benchmark = replace(plugins.build("benchmark", "mbpp"), data={"name": "mbpp", "split": "tiny"})
SUM = "a, b = map(int, input().split())\nprint(a + b)"


@dataclass
class Sometimes:
    """A player whose first answers to each problem are right."""

    right: int
    solutions: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=lambda: {"model": "m"})
    asked: dict[str, int] = field(default_factory=dict)

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        number = self.asked[problem.id] = self.asked.get(problem.id, 0) + 1
        solution = self.solutions.get(problem.id, problem.answer)
        text = f"```python\n{solution if number <= self.right else 'pass'}\n```"
        completion = Completion(token_ids=[], logprobs=[], finish="stop", version=0)
        turn = Turn(prompt_ids=[], completion=completion, text=text)
        return Played(Trajectory(problem=problem, turns=[turn], status="done"), 1)


def metrics(
    name: str, out: Path, right: int, solutions: Mapping[str, str], samples: int, limit: int
) -> dict[str, float]:
    benchmark = plugins.build("benchmark", name)
    with GradingPool(workers=2, timeout_s=30.0) as pool:
        reward = as_group_reward(plugins.build("reward", {**benchmark.reward, "timeout_s": 20.0}), pool)
        plan = Plan(samples=samples, limit=limit, temperature=1.0)
        result = wait(evaluate(name, Sometimes(right, solutions), reward, out, plan))
    assert result["unjudged"] == 0
    return {metric: estimate["value"] for metric, estimate in result["metrics"].items()}


@pytest.mark.parametrize("name", ["FUNCTIONS", "SENTENCES"])
def test_functions_pass_at_k(tmp_path: Path, name: str) -> None:
    """Right in 3 of 10: one of k is right with 1 - C(7, k) / C(10, k)."""
    found = metrics(f"{__name__}:{name}", tmp_path, 3, {}, samples=10, limit=2)
    for k in (2, 4, 8, 10):
        assert found[f"pass@{k}"] == pytest.approx(1 - comb(7, k) / comb(10, k))
    assert found["avg@10"] == pytest.approx(0.3)


def test_programs_by_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "livecodebench").mkdir()
    (tmp_path / "livecodebench/test.jsonl").write_text(json.dumps(PROGRAM))
    monkeypatch.setenv("LLMRL_DATA", str(tmp_path))
    found = metrics("livecodebench", tmp_path / "out", 1, {"abc1_a": SUM}, samples=4, limit=1)
    assert (found["avg@4"], found["pass@2"], found["pass@4"]) == (0.25, 0.5, 1.0)
