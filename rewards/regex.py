"""A regular expression that an answer must match."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from llmrl.answers.marked import innermost, marked
from llmrl.answers.thoughts import after_thoughts
from llmrl.types import Problem, Score

POINT = re.compile(r"(?<=\d)\.(?=\d)|(?<=[^\W_])(?<!\\\w)\.(?=\s*$)")


@dataclass(frozen=True)
class Regex:
    """1.0 if the answer matches a pattern, else 0.0.

    The pattern is the option, or the reference of the problem where the option is null; in a reference, a point between
    digits and one at the end are points, so that `3.14` does not match `3x14`. The expressions are Python's, and some
    never end on some texts: the item's time limit then makes it a `timeout` without a value, like every answer that
    cannot be judged.

    Raises:
        ValueError: the pattern is no regular expression, or there is none; as an option, when the reward is built.
    """

    pattern: str | None = None  # null: `problem.answer`
    match: Literal["full", "search"] = "full"  # the whole answer, or any part of it
    read: Literal["whole", "marked"] = "whole"  # the text after the thoughts; or the answer in tags, in a box ...
    ignore_case: bool = False
    dot_all: bool = True  # a dot matches line ends too

    def __post_init__(self) -> None:
        if self.pattern is not None:
            self._compiled(self.pattern)

    def __call__(self, problem: Problem, text: str) -> Score:
        expression = self._compiled(POINT.sub(r"\.", problem.answer) if self.pattern is None else self.pattern)
        answer = marked(text) if self.read == "marked" else after_thoughts(text)
        if answer is None or not answer.strip():
            return Score(0.0, "unparsable", reason="no answer is marked" if answer is None else "an empty answer")
        answer = (innermost(answer) if self.read == "marked" else answer).strip()
        found = expression.fullmatch(answer) if self.match == "full" else expression.search(answer)
        told = f"{answer[:80]!r} {'matches' if found else 'does not match'} {expression.pattern[:80]!r}"
        return Score(float(found is not None), "correct" if found else "wrong", reason=told, answer=answer)

    def _compiled(self, pattern: str) -> re.Pattern[str]:
        return compiled(pattern, (re.IGNORECASE if self.ignore_case else 0) | (re.DOTALL if self.dot_all else 0))


@lru_cache(maxsize=1024)
def compiled(pattern: str, flags: int) -> re.Pattern[str]:
    """Compile the expression.

    Raises:
        ValueError: it is not valid, or empty, so that every text would match.
    """
    if not pattern.strip():
        raise ValueError("the pattern is empty; expected a regular expression")
    try:
        return re.compile(pattern, flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"the pattern {pattern[:80]!r} is no regular expression: {error}") from None


plugin = Regex
