"""Choose how threads wait for each other: asleep where somebody else needs the cores, else spinning."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SAMPLE_S = 0.1
IDLE = 0.8  # share of the cores' time; one busy process on two cores leaves half
_IDLE, _IOWAIT, _GUEST = 3, 4, 8  # columns of /proc/stat; from the last on, time is counted a second time


def choose() -> None:
    """Let threads sleep while they wait, unless the cores are idle or the user has chosen; before torch is loaded.

    On idle cores threads that spin save a third of sampling and a sixth of training; beside one busy process they take
    twice as long (docs/speed.md).
    """
    if any(name in os.environ for name in CHOICES):
        return
    alone = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) == 1
    if not (alone and _idle_share() > IDLE):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def _idle_share() -> float:
    """Measure the share of a moment in which this process's cores rest; 0 where the system does not tell."""
    try:
        cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        before = _ticks(cores)
        time.sleep(SAMPLE_S)
        passed = [now - then for now, then in zip(_ticks(cores), before, strict=True)]
        return (passed[_IDLE] + passed[_IOWAIT]) / max(1, sum(passed[:_GUEST]))
    except (OSError, AttributeError, ValueError, IndexError):  # no Linux, or one that tells less
        return 0.0


def _ticks(cores: Iterable[str]) -> list[int]:
    """Count ticks of the cores by what they did, summed, in the columns of /proc/stat."""
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    return [sum(column) for column in zip(*(map(int, line[1:]) for line in lines if line[0] in cores), strict=True)]
