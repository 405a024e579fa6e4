"""Parts of a run in a checkpoint: each that has a state, and a run that goes on where they stood."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llmrl.recipe import TrainOptions
from llmrl.scoring.trl_functions import TrainerState
from llmrl.train.build import _restore
from llmrl.train.callbacks import Callbacks
from llmrl.train.normaliser import RewardNormaliser
from llmrl.train.parts import FinishedStep
from llmrl.train.stopping import Stopping
from tests.builders import row


class Part:
    """A part whose state is a number."""

    best_step = None

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def state(self) -> Mapping[str, Any]:
        return {"number": self.number}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.number = state["number"]

    def after_step(self, finished: FinishedStep) -> None:
        """Do nothing."""


class Kept:
    """A checkpoint in memory."""

    def save(self, step: int, states: Mapping[str, Any], *, best: int | None) -> Path:
        self.kept = step, states
        return Path(f"step-{step}")

    def restore(self, _checkpoint: Path) -> tuple[int, Mapping[str, Any]]:
        return self.kept


def test_a_resumed_run_has_the_state_of_every_part_and_its_rewards_know_the_step(tmp_path: Path) -> None:
    names = ("source", "guard", "evaluation", "gold_reward", "algorithm", "second")
    checkpoints = Kept()

    def opened(number: int, resumed: Path | None) -> tuple[Any, dict[str, Part], TrainerState]:
        own = {name: Part(number + i) for i, name in enumerate(names)}
        policies = [
            SimpleNamespace(agent=agent, adaptation=own[name], learners=Part())
            for agent, name in (("", "algorithm"), ("second", "second"))
        ]
        parts: Any = SimpleNamespace(
            **{name: own[name] for name in ("source", "guard", "evaluation")},
            policies=policies,
            normaliser=RewardNormaliser(enabled=True),
            recipe=SimpleNamespace(train=TrainOptions(max_steps=9, save_steps=3)),
            logs=SimpleNamespace(flush=lambda: None, folder=tmp_path),
            chat=SimpleNamespace(tokenizer=None),
            accelerator=None,
            stopping=Stopping(),
            recorder=Part(),
            first_step=0,
        )
        place: Any = SimpleNamespace(checkpoints=checkpoints, resumed=resumed)
        progress = TrainerState()
        callbacks = Callbacks((), 9, tmp_path, None)
        _restore(parts, place, own["gold_reward"], callbacks, progress)  # type: ignore[arg-type]
        return parts, own, progress

    first, _, progress = opened(10, None)
    assert (first.first_step, progress.global_step) == (0, 0)
    first.normaliser([row(reward=1.0), row("other", reward=3.0)])
    for step in range(3):
        for part in first.after_step:
            part.after_step(FinishedStep(step=step, samples=(), groups=(), metrics={}))
        assert progress.global_step == step + 1, "what rewards of the next step are told"
    second, own, progress = opened(0, Path("step-3"))
    assert (second.first_step, progress.global_step) == (3, 3)
    assert [own[name].number for name in names] == list(range(10, 16))
    assert second.normaliser.moments == first.normaliser.moments
