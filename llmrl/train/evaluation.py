"""Benchmarks while a run trains, by the code that evaluates everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from llmrl.train.parallel import gather
from llmrl.train.parts import Clock, FinishedStep

OnSample = Callable[[str, int, int], None]  # benchmark, answers so far, answers in all


def unseen(_benchmark: str, _done: int, _of: int) -> None:
    """Nobody watches."""


class Evaluation:
    """The recipe's benchmarks, asked of whatever weights the engine holds; it remembers which were the best.

    The best are those of the highest average in the first benchmark.

    Args:
        folder: where answers go.
        rank: of this process, and how many there are; the main one evaluates.
        clock: times evaluations as `eval`.
        on_sample: sees every answer.
    """

    def __init__(
        self,
        recipe: Recipe,
        engine: Engine,
        chat: Chat,
        pool: GradingPool,
        folder: Path,
        *,
        rank: tuple[int, int] = (0, 1),
        clock: Clock | None = None,
        on_sample: OnSample = unseen,
    ) -> None:
        options = recipe.eval
        self._on_start = options.on_start
        self._every = options.every if options.benchmarks else 0
        self._last = recipe.train.max_steps
        self._folder = folder
        self._rank, self._ranks = rank
        self._clock = clock or Clock()
        self._on_sample = on_sample
        self._best: tuple[float, int] | None = None  # average, after so many steps
        self._plan = Plan(samples=options.samples, limit=options.limit, seed=recipe.train.seed)
        self._player = EngineGenerator(engine, chat, {"recipe": recipe.as_dict()}, recipe.rollout.max_prompt_length)
        self._rewards: dict[str, GroupScorer] = {}
        for name in options.benchmarks:
            benchmark: Benchmark = build("benchmark", name, "eval.benchmarks")
            self._rewards[name] = as_group_reward(build("reward", benchmark.reward, f"benchmark {name}: reward"), pool)

    @property
    def best_step(self) -> int | None:
        """Steps after which the policy was the best so far; None before the first evaluation."""
        return self._best[1] if self._best else None

    def at_start(self) -> None:
        """Evaluate before the first step, where `eval.on_start` asks for it. Collective."""
        if self._on_start and self._rewards:
            self.remembered(0)

    def after_step(self, finished: FinishedStep) -> None:
        """Evaluate when it is time, and ask for a checkpoint of what is the best so far. Collective."""
        if self.due(finished.done):
            with self._clock("eval"):
                finished.metrics |= self.remembered(finished.done)
        finished.save |= self.best_step == finished.done

    def state(self) -> dict[str, Any]:
        return {"best": self._best}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._best = tuple(state["best"]) if state["best"] else None

    def due(self, done: int) -> bool:
        """Whether it is time, after `done` steps."""
        return bool(self._every) and (done % self._every == 0 or done == self._last)

    def remembered(self, done: int) -> dict[str, float]:
        """Metrics after `done` steps, on every rank, by the main process; the best are remembered. Collective."""
        metrics = self(done, self._on_sample) if self._rank == 0 else {}
        (metrics,) = gather([metrics], self._ranks)[:1]
        first = next((value for name, value in metrics.items() if "/avg@" in name), None)
        if first is not None and (self._best is None or first > self._best[0]):
            self._best = (first, done)
        return metrics

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
