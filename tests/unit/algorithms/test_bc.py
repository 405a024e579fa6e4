"""Behaviour cloning by hand: two answers of 2 and 3 tokens with rewards 0.9 and 0.4."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest
import torch

from llmrl.algorithms.bc import BC
from llmrl.batch import collate
from llmrl.protocols import Forward
from llmrl.samples import Sample
from tests.builders import row

ROWS = [row("a", 0, 0.9, actions=2), row("b", 0, 0.4, actions=3)]
LOGPROBS = torch.tensor([[0.0, -1.0, -0.5, 0.0], [0.0, -2.0, -0.25, -0.25]])


def objective(algorithm: BC, rows: list[Sample] = ROWS) -> float:
    batch = collate(algorithm.credit(rows), pack=False)
    logprobs = LOGPROBS[[int(one.group == "b") for one in algorithm.credit(rows)]][:, : batch.token_ids.shape[1]]
    loss = algorithm.loss(Forward(logprobs=logprobs), batch)
    return float((loss.terms * batch.weights).sum())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1.5 + 2.5) / 2),
        ({"weights": "reward"}, (0.9 * 1.5 + 0.4 * 2.5) / 2),
        ({"weights": "filtered", "min_reward": 0.5}, 1.5),
        ({"weights": "filtered", "min_reward": 0.9}, None),  # above it, not at it
        ({"over": "sequence"}, (1.5 / 2 + 2.5 / 3) / 2),
        ({"over": "token"}, (1.5 + 2.5) / 5),
    ],
)
def test_the_objective(options: dict[str, Any], expected: float | None) -> None:
    if expected is None:
        assert BC(**options).credit(ROWS) == []
    else:
        assert objective(BC(**options)) == pytest.approx(expected, rel=1e-6)


def test_an_answer_without_a_score_is_no_answer() -> None:
    rows = [*ROWS, row("c", 0, nan)]
    for weights in ("none", "reward", "filtered"):
        assert len(BC(weights=weights).credit(rows)) == 2


def test_only_the_answers_that_count_are_counted() -> None:
    algorithm = BC(weights="filtered", min_reward=0.5)
    assert algorithm.metrics(algorithm.credit(ROWS)) == {"bc/answers": 1.0}


def test_options_that_are_refused() -> None:
    with pytest.raises(ValueError, match="over constant"):
        BC(over="constant")
    with pytest.raises(ValueError, match="minibatches 0"):
        BC(minibatches=0)
