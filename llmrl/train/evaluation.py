"""Benchmarks while a run trains, by the code that evaluates everything else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.evaluation.evaluate import Plan, evaluate
from llmrl.evaluation.generators import EngineGenerator
from llmrl.evaluation.summary import flat
from llmrl.plugins import build
from llmrl.protocols import Benchmark, Engine
from llmrl.recipe import Recipe
from llmrl.scoring.manager import GradingPool, GroupScorer, as_group_reward

OnSample = Callable[[str, int, int], None]  # benchmark, answers so far, answers in all


def unseen(_benchmark: str, _done: int, _of: int) -> None:
    """Nobody watches."""


class Evaluation:
    """The recipe's benchmarks, asked of whatever weights the engine holds."""

    def __init__(self, recipe: Recipe, engine: Engine, chat: Chat, pool: GradingPool, folder: Path) -> None:
        options = recipe.eval
        self._every = options.every if options.benchmarks else 0
        self._last = recipe.train.max_steps
        self._folder = folder
        self._plan = Plan(samples=options.samples, limit=options.limit, seed=recipe.train.seed)
        self._player = EngineGenerator(engine, chat, {"recipe": recipe.as_dict()}, recipe.rollout.max_prompt_length)
        self._rewards: dict[str, GroupScorer] = {}
        for name in options.benchmarks:
            benchmark: Benchmark = build("benchmark", name, "eval.benchmarks")
            self._rewards[name] = as_group_reward(build("reward", benchmark.reward, f"benchmark {name}: reward"), pool)

    def due(self, done: int) -> bool:
        """Whether it is time, after `done` steps."""
        return bool(self._every) and (done % self._every == 0 or done == self._last)

    def __call__(self, done: int, on_sample: OnSample = unseen) -> dict[str, float]:
        """`eval/<benchmark>/<measure>`; every answer is kept in `eval/step-<done>/`."""
        metrics: dict[str, float] = {}
        for name, reward in self._rewards.items():
            out = self._folder / f"step-{done:06d}"
            result: dict[str, Any] = wait(
                evaluate(name, self._player, reward, out, self._plan, on_sample=partial(on_sample, name))
            )
            metrics |= flat(name, result)
        return metrics
