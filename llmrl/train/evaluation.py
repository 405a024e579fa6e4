"""Benchmarks while a run trains, by the code that evaluates everything else; each process answers its share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.evaluation.evaluate import BenchmarkRun, Plan
from llmrl.evaluation.generators import EngineGenerator
from llmrl.evaluation.records import read_json
from llmrl.evaluation.summary import Record, flat
from llmrl.protocols import Benchmark, Engine
from llmrl.recipe import Recipe
from llmrl.rollout.concerted import Gather, concerted
from llmrl.scoring.manager import GradingPool, GroupScorer, as_group_reward
from llmrl.train import parallel
from llmrl.train.benchmarks import asked
from llmrl.train.parts import Clock, FinishedStep
from llmrl.types import Problem

OnSample = Callable[[str, int, int], None]  # benchmark, answers so far, answers in all
ROUND = 1024
"""Answers of each process after which the main process writes those of all: what a kill can lose."""


def unseen(_benchmark: str, _done: int, _of: int) -> None:
    """Nobody watches."""


class Evaluation:
    """The recipe's benchmarks, asked of whatever weights the engines of all processes hold; it remembers the best.

    The problems are dealt to the processes; the main process writes what one process alone would write. The best
    weights are those of the highest average in the first benchmark, of its rewards where these give no verdicts.

    Args:
        engine: that answers; None where nothing is ever evaluated.
        folder: where answers go.
        fingerprint: tells the policy's weights from others, at the time of the call; collective.
        rank: of this process, and how many there are.
        clock: times evaluations as `eval`.
        on_sample: sees every answer, in the main process.
    """

    def __init__(
        self,
        recipe: Recipe,
        engine: Engine | None,
        chat: Chat,
        pool: GradingPool,
        folder: Path,
        *,
        fingerprint: Callable[[], str],
        rank: tuple[int, int] = (0, 1),
        clock: Clock | None = None,
        on_sample: OnSample = unseen,
    ) -> None:
        options = recipe.eval
        self._on_start = options.on_start
        self._every = options.every if options.asks else 0
        self._last = recipe.train.max_steps
        self._folder = folder
        self._rank = rank
        self._clock = clock or Clock()
        self._on_sample = on_sample
        self._best: tuple[float, int] | None = None  # average, after so many steps
        most = options.max_completion_length
        self._plan = Plan(samples=options.samples, limit=options.limit, seed=recipe.train.seed, max_tokens=most)
        self._fingerprint = fingerprint
        self._asked: dict[str, tuple[Benchmark, GroupScorer]] = {}
        if engine is None:
            return
        rollout = recipe.rollout
        self._player = EngineGenerator(engine, chat, settings_of(recipe), rollout.max_prompt_length, rollout.max_length)
        for name, each in asked(recipe).items():
            self._asked[name] = each.benchmark, as_group_reward(each.reward, pool)

    @property
    def best_step(self) -> int | None:
        """Steps after which the policy was the best so far; None before the first evaluation."""
        return self._best[1] if self._best else None

    def at_start(self) -> None:
        """Evaluate before the first step, where `eval.on_start` asks for it. Collective."""
        if self.due(0):
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
        """True if an evaluation is due after `done` steps; before the first of them where `eval.on_start` says so."""
        if not done:
            return self._on_start and bool(self._asked)
        return bool(self._every) and (done % self._every == 0 or done == self._last)

    def remembered(self, done: int) -> dict[str, float]:
        """Metrics after `done` steps, on every rank; the best are remembered. Collective."""
        metrics = self(done, self._on_sample)
        first = next((value for name, value in metrics.items() if "/avg@" in name or name.endswith("/reward")), None)
        if first is not None and (self._best is None or first > self._best[0]):
            self._best = (first, done)
        return metrics

    def __call__(self, done: int, on_sample: OnSample = unseen) -> dict[str, float]:
        """Answer all benchmarks; `eval/<benchmark>/<measure>`, the same on every process. Collective.

        Every answer is kept in `eval/step-<done>/`; what is there already, by the same weights, is not asked again.

        Raises:
            LlmrlError: the first that any process met, raised by all.
        """
        metrics: dict[str, float] = {}
        out, join = self._folder / f"step-{done:06d}", partial(parallel.gather, world=self._rank[1])
        player = replace(self._player, settings={**self._player.settings, "weights": self._fingerprint()})
        if done:
            concerted(lambda: forget_replaced(out, player.settings) if self._rank[0] == 0 else None, join)
        for name, (benchmark, reward) in self._asked.items():
            run = BenchmarkRun.of(name, player, reward, self._plan, benchmark)
            metrics |= flat(name, play_dealt(run, out, self._rank, join, partial(on_sample, name)))
        return metrics


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """Settings of a recipe that decide the answers of given weights, beside benchmark, sampling and seed."""
    sections, rollout = recipe.as_dict(), recipe.rollout
    return {
        **{name: sections[name] for name in ("model", "engine")},
        "dtype": recipe.compute_dtype,
        "max_prompt_length": rollout.max_prompt_length,
        "max_length": rollout.max_length,
        "reward_timeout_s": rollout.reward_timeout_s,
    }


def forget_replaced(out: Path, settings: Mapping[str, Any]) -> None:
    """Remove answers of weights that are no more: a resumed run took their step again, and came to others.

    Args:
        out: the folder of an evaluation after that step.
        settings: of the player; where more than the `weights` differ, nothing is removed.
    """
    now = json.loads(json.dumps(settings, default=str))
    players = [config.get("player") for config in read_json(out / "config.json").values() if isinstance(config, dict)]
    if any(isinstance(old, dict) and old != now and {**old, "weights": now["weights"]} == now for old in players):
        shutil.rmtree(out)


def play_dealt(
    run: BenchmarkRun, out: Path, rank: tuple[int, int], gather: Gather, on_sample: Callable[[int, int], None]
) -> dict[str, Any]:
    """Play a benchmark, or what is still missing of it in `out`, on all processes; its result on each. Collective.

    Args:
        run: the same on every process, but for the engine that answers.
        out: a folder that the main process reads and writes.
        rank: which process, of how many.
        gather: joins lists of all processes, in their order.
        on_sample: called by the main process for each answer that it writes, with how many there are and will be.
    Raises:
        LlmrlError: the first that any process met, raised by all.
    """
    number, ranks = rank
    with ExitStack() as stack:
        records = concerted(lambda: stack.enter_context(run.records(out)) if number == 0 else None, gather)
        write = _nothing if records is None else run.keeper(records, on_sample)
        (recorded,) = gather([] if records is None else [set(records.rows)])
        missing = run.missing(recorded)
        for first in range(0, len(missing), ROUND * ranks):
            dealt = missing[first : first + ROUND * ranks][number::ranks]
            own = concerted(partial(_answer, run, dealt, write), gather)
            others = gather(own)[len(own) :]  # in the main process, whose own come first and are written
            concerted(partial(_write, others, write), gather)
        result = concerted(lambda: [] if records is None else [run.finish(records, out)], gather)
        (shared,) = gather(result)
        return dict(shared)


def _answer(run: BenchmarkRun, asked: Sequence[tuple[Problem, int]], write: Callable[[Record], None]) -> list[Record]:
    """Answer a share; its records, each of them written as it comes."""
    own: list[Record] = []

    def keep(record: Record) -> None:
        own.append(record)
        write(record)

    wait(run.answer(asked, keep))
    return own


def _write(records: Sequence[Record], write: Callable[[Record], None]) -> None:
    for record in records:
        write(record)


def _nothing(_record: Record) -> None:
    """Leave it to the main process to write."""
