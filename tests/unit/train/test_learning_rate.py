from __future__ import annotations

from math import cos, pi

import pytest

from llmrl.recipe import TrainOptions
from llmrl.train.learners import learning_rate


def rates(**options: object) -> list[float]:
    made = TrainOptions(learning_rate=0.8, max_steps=6, **options)  # type: ignore[arg-type]
    return [learning_rate(made, step) for step in range(6)]


def test_constant() -> None:
    assert rates() == [0.8] * 6


def test_warm_up_rises_by_equal_parts_and_never_starts_at_0() -> None:
    assert rates(warmup_steps=4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_linear_falls_towards_0_at_the_last_step() -> None:
    assert rates(lr_scheduler_type="linear") == pytest.approx([0.8 * (6 - step) / 6 for step in range(6)])
    # Two steps of warm-up, then four from full: 1, 3/4, 1/2, 1/4.
    assert rates(lr_scheduler_type="linear", warmup_steps=2) == pytest.approx([0.4, 0.8, 0.8, 0.6, 0.4, 0.2])


def test_cosine_is_half_way_in_the_middle() -> None:
    assert rates(lr_scheduler_type="cosine") == pytest.approx([0.4 * (1 + cos(pi * step / 6)) for step in range(6)])
    assert rates(lr_scheduler_type="cosine")[3] == pytest.approx(0.4)


def test_a_warm_up_longer_than_the_run_never_arrives() -> None:
    assert rates(warmup_steps=12, lr_scheduler_type="cosine") == pytest.approx([0.8 * k / 12 for k in range(1, 7)])
