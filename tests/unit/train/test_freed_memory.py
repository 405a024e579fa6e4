"""Memory of freed tensors goes back to the system, unless the environment says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOLES = """
import torch
from llmrl.train.freed_memory import give_back
give_back()
def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20
torch.ones(1 << 23)  # 32 MiB: freed, it raises the border of glibc
before = held()
tensors = [torch.ones(5 << 18) for _ in range(80)]  # 5 MiB each
del tensors[:-1]
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the border is glibc's")
@pytest.mark.parametrize(("given", "least", "most"), [({}, 0, 40), ({"MALLOC_MMAP_THRESHOLD_": "33554432"}, 300, 500)])
def test_holes_between_tensors(given: dict[str, str], least: int, most: int) -> None:
    """400 MiB are freed but for the last 5, below which a heap cannot shrink."""
    root = str(Path(__file__).parents[3])
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", HOLES],
        capture_output=True,
        text=True,
        timeout=120,
        env=env | given | {"PYTHONPATH": root},
        check=True,
    )
    assert least <= int(done.stdout) <= most
