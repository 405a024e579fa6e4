"""Split a text into reasoning steps, by the same rule in training and in process rewards."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

Separator = Literal["blank_line", "line"]
LEAST_WORDS = 5
"""Of a step that a blank line ends: empty and tiny steps would be the cheapest way to more of them."""

UP_TO_CUT = {  # the rest of a step behind its words, with the separator
    "blank_line": r"(?:[^\n]++|\n(?![^\S\n]*\n))*+\s*+",
    "line": r"[^\n]*+\s*+",
}


def step_ends(text: str, separator: Separator = "blank_line", least_words: int = LEAST_WORDS) -> list[int]:
    """End of each step, in characters; a step holds the separator behind it, so the last ends with the text.

    A step of fewer than `least_words` words is one with the step after it, or, at the end, with the one before it.
    Text without a word has no step.
    """
    if not text.strip():
        return []
    ends = [step.end() for step in _step(separator, least_words).finditer(text)]
    if len(ends) > 1 and len(text[ends[-2] :].split(None, least_words)) < least_words:
        ends.pop()
    ends[-1] = len(text)
    return ends


@cache
def _step(separator: Separator, least_words: int) -> re.Pattern[str]:
    """An expression for a step, or for what is left behind the last one."""
    words = r"\S++" + rf"(?:\s++\S++){{{least_words - 1}}}"
    return re.compile(rf"\s*+(?:{words}{UP_TO_CUT[separator]}|\S.*+)", re.DOTALL)


def steps(text: str, ends: list[int]) -> list[str]:
    """The texts of the steps."""
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
