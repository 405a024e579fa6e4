from __future__ import annotations

import random

import numpy as np
import torch

from llmrl.train import random_states


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_every_generator_goes_back_to_where_it_was() -> None:
    before = random_states.capture()
    first = draws()
    assert all(a != b for a, b in zip(first, draws(), strict=True))
    random_states.put_back(before)
    assert draws() == first
