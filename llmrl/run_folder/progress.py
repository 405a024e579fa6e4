"""Progress of a run: a live view on a terminal, a plain line a step elsewhere."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from llmrl.types import Trajectory

SHOW_CURSOR = "\x1b[?25h"
WIDTH = 200
"""Characters of an answer that the live view shows."""


class Progress:
    """Shows step, reward, accuracy, length, entropy, tokens per second, evaluations and time left; a context manager.

    A terminal shows besides the run's folder and, under the bar, one episode of the last step.
    """

    def __init__(self, steps: int, *, quiet: bool = False, title: str = "train", folder: str = "") -> None:
        self._steps = steps
        self._folder = folder
        self._evaluated = ""
        self._title = title
        self._bar: Any = None
        self._task: Any = None
        self._began: float | None = None
        self._first = 0
        if not quiet and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
            )

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            if self._folder:
                self._bar.console.print(f"run: {self._folder}", markup=False, highlight=False)
            self._task = self._bar.add_task(self._title, total=self._steps, numbers="starting")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, step: int, metrics: Mapping[str, float], played: Sequence[Sequence[Trajectory]]) -> None:
        """Show a finished step."""
        numbers = describe(metrics)
        if evaluated := evaluations(metrics):
            self._evaluated = evaluated
        if self._bar is not None:
            self._bar.update(self._task, completed=step + 1, numbers=f"{numbers}  {self._evaluated}")
            if text := one_episode(played):
                self._bar.console.print(text, markup=False, highlight=False, overflow="ellipsis", no_wrap=True)
            return
        numbers = "  ".join(filter(None, [numbers, evaluated]))
        now = time.perf_counter()
        if self._began is None:
            self._began, self._first = now, step
        taken = step - self._first
        left = (now - self._began) / taken * (self._steps - step - 1) if taken else None
        remaining = "" if left is None else f"  left {left:.0f}s"
        print(f"{self._title} {step + 1}/{self._steps}  {numbers}{remaining}", flush=True)

    def sample(self, benchmark: str, done: int, of: int) -> None:
        """Show how far an evaluation is."""
        if self._bar is not None:
            self._bar.update(self._task, numbers=f"eval {benchmark} {done}/{of}")
        elif done == of or done % max(1, of // 10) == 0:
            print(f"{self._title} eval {benchmark} {done}/{of}", flush=True)


def end_at_once(code: int) -> NoReturn:
    """End the process, from a handler of signals too, with the cursor that a live view has hidden."""
    if sys.stdout.isatty():
        os.write(sys.stdout.fileno(), SHOW_CURSOR.encode())
    os._exit(code)


def describe(metrics: Mapping[str, float]) -> str:
    """The few numbers that people watch."""
    shown = [
        ("reward", "reward", ".3f"),
        ("accuracy", "accuracy", ".3f"),
        ("completions/mean_length", "length", ".0f"),
        ("entropy", "entropy", ".2f"),
        ("perf/tokens_per_sec", "tokens/s", ".0f"),
    ]
    return "  ".join(f"{label} {metrics[name]:{form}}" for name, label, form in shown if name in metrics)


def evaluations(metrics: Mapping[str, float]) -> str:
    """The results of a step's evaluation, without their intervals: `eval gsm8k avg@1 0.412`."""
    names = [name for name in metrics if re.fullmatch(r"eval/[^/]+/avg@\d+", name)]
    return "  ".join(f"eval {' '.join(name.split('/')[1:])} {metrics[name]:.3f}" for name in names)


def one_episode(played: Sequence[Sequence[Trajectory]]) -> str:
    """The first answer of a step in a line: `[reward 1.000] text`; "" where nothing was played."""
    episode = next((episode for group in played for episode in group), None)
    if episode is None:
        return ""
    reward = "" if episode.earned is None else f"[reward {episode.earned:.3f}] "
    return reward + " ".join(episode.text.split())[:WIDTH]
