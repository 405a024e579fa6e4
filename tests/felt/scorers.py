"""Rewards of the probes, for worker processes: a module that imports next to nothing, as each of them imports it."""

from __future__ import annotations

import time

from llmrl.types import Problem, Score


def slow(problem: Problem, text: str) -> Score:
    """A score after a while."""
    time.sleep(0.2)
    return Score(1.0)


def steps(problem: Problem, text: str) -> Score:
    """A score for each line: less and less."""
    ends = [i + 1 for i, letter in enumerate(text) if letter == "\n"]
    return Score(1.0, steps=[1 / (2 + i) for i in range(len(ends))], step_ends=ends)
