"""Cases of the literature about tokens between engine and trainer, by hand."""

from __future__ import annotations

import pytest
import torch

from llmrl.ops.mismatch import diagnostics


def test_encoding_again_is_not_what_was_sampled() -> None:
    vocabulary = {"a": 0, "b": 1, "ab": 2, "c": 3, "bc": 4}
    words = {number: word for word, number in vocabulary.items()}
    sampled, encoded = [0, 4], []
    text = rest = "".join(words[number] for number in sampled)
    while rest:  # the longest word first
        word = max((word for word in vocabulary if rest.startswith(word)), key=len)
        encoded.append(vocabulary[word])
        rest = rest[len(word) :]
    assert (text, encoded) == ("abc", [2, 3])
    assert encoded != sampled, "which is why a history goes on from recorded ids: test_gateway.py has the gateway's"


def test_engine_against_trainer() -> None:
    train, rollout = torch.tensor([-0.12, -0.25, -0.31]).double(), torch.tensor([-0.1, -0.2, -0.3]).double()
    found = diagnostics(train, rollout, torch.ones(3, dtype=torch.bool), cap=2.0)
    # ratios e^-0.02, e^-0.05, e^-0.01 = 0.98020, 0.95123, 0.99005; mean |difference| (0.02 + 0.05 + 0.01) / 3
    assert found["abs/mean"] == pytest.approx(0.08 / 3, abs=1e-6)
    assert found["k3"] == pytest.approx(0.0004926438522124543, abs=1e-7)
    assert found["above_cap"] == 0.0
