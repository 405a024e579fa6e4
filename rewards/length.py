"""Length of an answer, as a number to weigh or to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrl.types import Problem, Score


@dataclass(frozen=True)
class Length:
    """The length of the answer, as it is: a factor of `heron`, or a part of a `mix` with a small weight."""

    unit: Literal["characters", "words"] = "characters"

    def __call__(self, problem: Problem, text: str) -> Score:
        return Score(float(len(text) if self.unit == "characters" else len(text.split())))


plugin = Length
