"""Order of a step, and the numbers that the loop hands on: versions of the weights, seeds and rates."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from llmrl.protocols import Loss, Update
from llmrl.samples import Sample
from llmrl.train.learner import OptimStep
from llmrl.train.loop import train
from llmrl.train.recorder import policy_metrics
from llmrl.train.run import Run
from tests.builders import row

UPDATE = Update("policy", lambda new, _: Loss(new.logprobs))


class Sync:
    """Versions of the weights that an engine was given."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.versions: list[int | str] = []

    def __call__(self, version: int) -> None:
        self.versions.append(version)

    def sleep(self) -> None:
        self.versions.append("asleep")


class Models:
    """Records with which seed and rate each update is fitted."""

    def __init__(self) -> None:
        self.fitted: list[tuple[int, float]] = []

    def annotate(self, rows: Sequence[Sample], _needs: Any) -> Sequence[Sample]:
        return rows

    def learning_rate(self, step: int, model: str) -> float:
        return {"policy": 0.5}[model] / (step + 1)

    def fit(self, rows: Sequence[Sample], update: Update, *, seed: int, rate: float) -> Any:
        self.fitted.append((seed, rate))
        yield rows, OptimStep(update.model, {}, True, 1, 1)


def run(first_step: int, steps: int) -> tuple[Any, Sync, Models]:
    """A run that goes on at `first_step`, whose parts do nothing."""
    sync, models, nothing = Sync(), Models(), SimpleNamespace(after_step=lambda _: None)
    adaptation = SimpleNamespace(asked=list, credit=list, updates=lambda _: [UPDATE], metrics={})
    algorithm = SimpleNamespace(needs=frozenset)
    policy = SimpleNamespace(own=list, sync=sync, learners=models, adaptation=adaptation, algorithm=algorithm, agent="")
    made: Any = SimpleNamespace(
        policies=[policy],
        first_step=first_step,
        recipe=SimpleNamespace(train=SimpleNamespace(max_steps=steps)),
        clock=lambda _: nullcontext(),
        stopping=SimpleNamespace(interrupting=nullcontext),
        normaliser=list,
        source=SimpleNamespace(next=lambda step: [row(str(step))]),
        guard=lambda *given: given[-1],
        recorder=SimpleNamespace(measured=lambda step, _: SimpleNamespace(step=step, ends=False)),
        after_step=[nothing],
        evaluation=SimpleNamespace(at_start=lambda: sync.versions.append("evaluated")),
        begin=lambda _: None,
        finish=lambda: None,
    )
    made.start = lambda: Run.start(made)
    return made, sync, models


def test_an_engine_has_the_weights_of_as_many_steps_as_were_taken() -> None:
    begun, sync, _ = run(0, 2)
    train(begun)
    assert sync.versions == [0, "evaluated", "asleep", 1, "asleep", 2]
    resumed, sync, _ = run(3, 5)
    train(resumed)
    assert sync.versions == [3, "asleep", 4, "asleep", 5]


def test_every_step_has_its_own_seed_and_rate() -> None:
    begun, _, models = run(1, 4)
    train(begun)
    assert models.fitted == [(1, 0.25), (2, 0.5 / 3), (3, 0.125)]


def test_how_old_a_step_is_is_told_of_fresh_samples_alone() -> None:
    """Two steps of lag, and one; what was replayed is of another age on purpose."""
    samples = [row(version=3), row(version=4), row(version=0, origin="replay")]
    policy: Any = SimpleNamespace(sync=Sync(), adaptation=SimpleNamespace(metrics={}), agent="")
    learned: Any = SimpleNamespace(policy=policy, samples=samples)
    numbers = policy_metrics(learned, 5, played=True)
    assert (numbers["staleness/mean"], numbers["staleness/max"]) == (1.5, 2.0)
