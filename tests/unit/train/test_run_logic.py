"""The run's own logic: the best checkpoint, collecting before learning, rates at both ends, seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import cos, pi
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmrl import aio
from llmrl.algorithms.t1 import T1
from llmrl.chat import Chat
from llmrl.plugins import build
from llmrl.recipe import RolloutOptions, TrainOptions
from llmrl.tiny import make_tokenizer
from llmrl.train.adaptation import Adaptation
from llmrl.train.evaluation import Evaluation
from llmrl.train.learners import learning_rate
from llmrl.train.parts import FinishedStep
from llmrl.train.saver import Saver
from tests.builders import SUMS, Grader, on_ranks, scripted_worker, source_context


class Scored(Evaluation):
    """An evaluation whose scores are known, by the steps that were taken."""

    def __init__(self, scores: dict[int, float], every: int = 1, last: int = 9, on_start: bool = False) -> None:
        self.scores, self._every, self._last, self._on_start = scores, every, last, on_start
        self._asked: Any = {"a": None}
        self._best, self._on_sample = None, lambda *_: None
        self._clock: Any = _Clock()

    def __call__(self, done: int, on_sample: Any = None) -> dict[str, float]:
        return {"eval/a/truncated": 0.9, "eval/a/avg@1": self.scores[done], "eval/b/avg@1": -self.scores[done]}


class _Clock:
    def __call__(self, _name: str) -> _Clock:
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class Kept:
    """Checkpoints in memory: states by step, and which was called the best."""

    def __init__(self) -> None:
        self.states: dict[int, Any] = {}
        self.best: dict[int, int | None] = {}

    def save(self, done: int, states: Any, best: int | None) -> Path:
        self.states[done], self.best[done] = json.loads(json.dumps(states)), best
        return Path(str(done))

    def restore(self, checkpoint: Path) -> tuple[int, Any]:
        return int(str(checkpoint)), self.states[int(str(checkpoint))]


def taken(
    evaluation: Scored, kept: Kept, steps: Sequence[int], save_steps: int = 0, resume: int | None = None
) -> Saver:
    """Take steps; each is evaluated, then saved where that is due."""
    options = TrainOptions(max_steps=9, save_steps=save_steps)
    logs: Any = SimpleNamespace(flush=lambda: None)
    saver = Saver(kept, {"evaluation": evaluation}, evaluation, options, logs)  # type: ignore[arg-type]
    if resume is not None:
        assert saver.restore(Path(str(resume))) == resume
    for step in steps:
        finished = FinishedStep(step=step, samples=[], groups=[], metrics={})
        evaluation.after_step(finished)
        saver.after_step(finished)
    return saver


def test_the_best_is_the_highest_and_of_equals_the_first() -> None:
    kept = Kept()
    taken(Scored({1: 0.5, 2: 0.75, 3: 0.75, 4: 0.25}), kept, range(4))
    assert kept.best == {1: 1, 2: 2}, "a checkpoint for each that was the best, and no other was due"


def test_the_best_before_a_kill_is_the_best_after_it() -> None:
    kept, scores = Kept(), {1: 0.5, 2: 0.75, 3: 0.25, 4: 0.75, 5: 0.6, 6: 0.8}
    taken(Scored(scores), kept, range(3), save_steps=3)
    assert kept.best[3] == 2
    again = Scored(scores)
    taken(again, kept, range(3, 5), resume=3)
    assert (again.best_step, set(kept.states)) == (2, {1, 2, 3}), "worse and equal ones are not kept"
    taken(again, kept, [5])
    assert (again.best_step, kept.best[6]) == (6, 6)


def test_the_start_counts_and_a_first_score_of_zero_is_a_score() -> None:
    started = Scored({0: 0.0, 1: 0.0, 2: -1.0}, on_start=True)
    started.at_start()
    assert started.best_step == 0
    taken(started, Kept(), range(2))
    assert started.best_step == 0
    assert Scored({}).best_step is None


def test_evaluations_are_due_every_so_many_steps_and_at_the_end() -> None:
    evaluation = Scored({}, every=4, last=9)
    assert [done for done in range(10) if evaluation.due(done)] == [4, 8, 9]
    assert [done for done in range(3) if Scored({}, on_start=True, every=0).due(done)] == [0]


def test_nothing_learns_or_adapts_while_a_run_collects() -> None:
    """Two steps of collecting: then the algorithm's own step 0, with its metrics."""
    adaptation = Adaptation(build("algorithm", {"name": "ppo", "critic_warmup": 1}), 2)
    assert [[update.model for update in adaptation.updates(step)] for step in range(4)] == [
        [],
        [],
        ["critic"],
        [update.model for update in build("algorithm", {"name": "ppo", "critic_warmup": 1}).updates(1)],
    ]
    adapts = Adaptation(T1(), 2)
    for step, entropy in enumerate((5.0, 4.0, 3.0, 2.0)):
        adapts.after_step(FinishedStep(step=step, samples=[], groups=[], metrics={"entropy": entropy}))
        assert adapts.algorithm.starting_entropy == (None if step < 2 else 3.0)  # type: ignore[attr-defined]
    again = Adaptation(T1(), 2)
    again.restore(json.loads(json.dumps(adapts.state())))
    assert again.algorithm == adapts.algorithm


@pytest.mark.parametrize(
    ("kind", "last"), [("constant", 1.0), ("linear", 1 / 8), ("cosine", 0.5 * (1 + cos(pi * 7 / 8)))]
)
def test_rates_at_both_ends(kind: Any, last: float) -> None:
    """Two steps of warm-up in ten: 1/2, 1 at its end, 1 behind it; the last step is one short of the end."""
    options = TrainOptions(learning_rate=0.8, max_steps=10, warmup_steps=2, lr_scheduler_type=kind)
    rates = [learning_rate(options, step) / 0.8 for step in range(10)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[9] == pytest.approx(last)
    assert learning_rate(options, 10) == pytest.approx(0.8 if kind == "constant" else 0.0)


def seeds(
    steps: int, resumed: int | None = None, rank: tuple[int, int] = (0, 1), gather: Any = None
) -> list[list[Any]]:
    """Prompts and seeds that each step asks the engine with; a resumed source has the state of one that was killed."""
    chat = Chat(make_tokenizer())
    options = RolloutOptions(num_generations=2, prompts_per_step=2, max_completion_length=4)
    state = None
    asked: list[list[Any]] = []
    for first, end in [(0, steps)] if resumed is None else [(0, resumed), (resumed, steps)]:
        worker = scripted_worker(chat, ["1", "2"], Grader(lambda one: one.text == "1"), options)
        context = source_context(worker, SUMS, options, rank=rank, **({} if gather is None else {"gather": gather}))
        source = build("source", "online").start(context)
        if state is not None:
            source.restore(json.loads(json.dumps(state)))
        for step in range(first, end):
            worker.engine.calls.clear()  # type: ignore[attr-defined]
            source.next(step)
            asked.append(sorted((ids, sampling.seed) for ids, sampling in worker.engine.calls))  # type: ignore[attr-defined]
        state = source.state()
        source.close()
    return asked


def test_seeds_of_steps() -> None:
    """A resumed run asks with those that it would have asked with; no two episodes share one, in no two steps."""
    alone = seeds(5)
    assert seeds(5, resumed=3) == alone
    each = [seed for step in alone for _, seed in step]
    assert len(set(each)) == len(each) == 20


@pytest.fixture
def loop_for_all_ranks() -> Iterator[None]:
    aio.background()
    yield
    aio.foreground()


@pytest.mark.usefixtures("loop_for_all_ranks")
def test_ranks_ask_with_seeds_of_their_own() -> None:
    """Two ranks share the episodes of one: none asks for another's, and together they ask what one alone would."""
    alone = seeds(3)
    first, second = on_ranks(2, lambda rank, gather: seeds(3, rank=rank, gather=gather))
    for one, other, whole in zip(first, second, alone, strict=True):
        assert len(one) == len(other) == 2
        assert sorted([*one, *other]) == whole
