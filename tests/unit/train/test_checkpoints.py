"""The folder of checkpoints: which are kept, which is in force, and which are set aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from llmrl.recipe import TrainOptions
from llmrl.train.checkpoints import Checkpoints
from llmrl.train.parallel import accelerator


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[int], Checkpoints]:
    def made(keep: int) -> Checkpoints:
        processes = accelerator(TrainOptions(report_to="none"))
        processes.prepare(nn.Linear(2, 2))
        return Checkpoints(tmp_path, processes, keep)

    return made


def names(folder: Path, pattern: str = "step-*") -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_the_newest_are_kept_and_the_best(folder: Callable[[int], Checkpoints], tmp_path: Path) -> None:
    checkpoints = folder(2)
    for step in range(1, 6):
        checkpoints.save(step, {}, best=2)
    assert names(tmp_path) == ["step-000002", "step-000004", "step-000005"]
    checkpoints.save(6, {}, best=6)
    assert names(tmp_path) == ["step-000005", "step-000006"]


def test_steps_that_are_taken_again_set_their_checkpoints_aside(
    folder: Callable[[int], Checkpoints], tmp_path: Path
) -> None:
    checkpoints = folder(9)
    for step in range(1, 5):
        checkpoints.save(step, {"part": {"of": step}})
    assert checkpoints.restore(checkpoints.named("step-000002")) == (2, {"part": {"of": 2}})
    assert names(tmp_path) == ["step-000001", "step-000002", "step-000003.replaced", "step-000004.replaced"]
    assert checkpoints.latest() == tmp_path / "step-000002"
    checkpoints.save(3, {})
    assert names(tmp_path) == ["step-000001", "step-000002", "step-000003"], "the next save removes them"
