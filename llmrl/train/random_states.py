"""The global random generators, which libraries draw from: kept, and put back."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed(number: int) -> None:
    """Seed the generators of Python, NumPy and torch: llmrl's own draws name their seeds, those of libraries do not."""
    from accelerate.utils import set_seed

    set_seed(number)


def capture() -> tuple[Any, ...]:
    """States of the generators of Python, NumPy and torch, on the CPU and on every GPU."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), gpus


def put_back(states: tuple[Any, ...]) -> None:
    """Put the generators where they were at `capture`."""
    python, numpy, cpu, gpus = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if gpus:
        torch.cuda.set_rng_state_all(gpus)
