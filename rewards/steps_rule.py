"""A process reward that needs no model: each calculation of an answer, checked exactly."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmrl.rewards._arithmetic import evaluate
from llmrl.rewards._steps import step_ends, steps
from llmrl.types import Problem, Score

RUN = re.compile(r"[-+*/×·÷−=\d.,() \t]+")
SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-"})
DECIMAL = re.compile(r"(\d*)\.(\d+)")
BULLET = re.compile(r"^[-*+][ \t]+")
GOES_ON = re.compile(r"[ \t]*(?:[+*/×·÷]|[-−](?!\d))")
CALCULATES = re.compile(r"[\d)][ \t]*[-+*/]")


@dataclass(frozen=True)
class StepsRule:
    """Scores each line that calculates, such as `3 + 4 = 7`: 1.0 if all its equations hold exactly, else 0.0.

    A line without a calculation belongs to the next that has one, and the last words to the last. The scores are in
    `Score.steps`; the value is 0.0 and there is no verdict, for a step may be right and useless. Taken as a reward by
    itself it is a reward for writing many right lines: shape it with `clip_delta`.
    """

    def __call__(self, problem: Problem, text: str) -> Score:
        ends: list[int] = []
        scores: list[float] = []
        lines = step_ends(text, "line", least_words=1)
        for end, line in zip(lines, steps(text, lines), strict=True):
            if found := calculations(line):
                ends.append(end)
                scores.append(float(all(map(holds, found))))
        if ends:
            ends[-1] = len(text)
        return Score(0.0, steps=scores, step_ends=ends, reason=f"{sum(scores):g} of {len(scores)} calculations hold")


def calculations(line: str) -> list[list[str]]:
    """The equations of whole and decimal numbers in a line, each as its sides; at least one of them calculates.

    What touches a letter, or goes on from one (`2x + 3 = 7`), is algebra and is left alone.
    """
    found = []
    for run in RUN.finditer(line):
        before, after = line[: run.start()], line[run.end() :]
        text = run[0].strip(" \t.,=")
        if not before:
            text = BULLET.sub("", text)
        glued = before[-1:].isalnum() and run[0][0] not in " \t="
        algebra = glued or after[:1].isalpha() or (before and GOES_ON.match(run[0]))
        sides = [_plain(side) for side in text.split("=")]
        if not algebra and len(sides) > 1 and any(CALCULATES.search(side) for side in sides):
            found.append(sides)
    return found


def holds(sides: list[str]) -> bool:
    """Whether all sides have one value; False where a side has none."""
    try:
        return len({evaluate(side)[0] for side in sides}) == 1
    except (ValueError, ZeroDivisionError):
        return False


def _plain(side: str) -> str:
    """In Python's notation and whole numbers: 1,200.5 as (12005/10)."""
    side = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", side.translate(SIGNS))
    return DECIMAL.sub(lambda m: f"({m[1]}{m[2]}/1{'0' * len(m[2])})", side).strip()


plugin = StepsRule
