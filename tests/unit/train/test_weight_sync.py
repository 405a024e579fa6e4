"""The engine's weights: whole, with adapters merged in, and proved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from llmrl.errors import SyncError
from llmrl.recipe import ModelOptions
from llmrl.train.learners import Learners
from llmrl.train.network import load
from llmrl.train.weight_sync import BOUNDS, named_weights, probe, prove, score


class Engine:
    """An engine whose log-probabilities are the trainer's, with gaps."""

    def __init__(self, own: Sequence[float], gaps: Sequence[float]) -> None:
        self.scores = [number + gaps[i % len(gaps)] for i, number in enumerate(own)]

    async def score(self, token_ids: Sequence[int]) -> list[float]:
        return self.scores[: len(token_ids) - 1]


def test_adapters_are_part_of_what_an_engine_gets(build: Callable[..., Learners], tiny_model_dir: Path) -> None:
    policy = build(model={"use_peft": True}).policy
    with torch.no_grad():
        for name, weight in policy.net.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    plain: Any = load(ModelOptions(policy=str(tiny_model_dir)))
    ids = torch.tensor([[*probe(policy.vocabulary)]])
    expected = score(policy, ids[0].tolist())

    def gap() -> float:
        with torch.no_grad():
            spread = plain(input_ids=ids).logits[0, :-1].log_softmax(-1)
        found = spread.gather(-1, ids[0, 1:, None])[:, 0]
        return float((found - torch.tensor(expected)).abs().max())

    assert gap() > 1e-2, "without the adapters"
    missing = plain.load_state_dict(dict(named_weights(policy)), strict=False)
    assert not missing.unexpected_keys
    plain.tie_weights()
    assert gap() < 1e-4


@pytest.mark.parametrize("gaps", [[1e-3], [1e-3, -1e-3], [0.0, 0.0, 0.0, 4e-4], [1.0]])
def test_an_engine_with_other_weights_is_told_however_its_gaps_lie(
    build: Callable[..., Learners], gaps: list[float]
) -> None:
    policy = build().policy
    ours = score(policy, probe(policy.vocabulary))
    assert prove(policy, Engine(ours, [0.5 * BOUNDS["float32"]]), 3, "float32") > 0  # type: ignore[arg-type]
    with pytest.raises(SyncError, match="weight sync to version 3: the engine does not hold the trainer's weights"):
        prove(policy, Engine(ours, gaps), 3, "float32")  # type: ignore[arg-type]
