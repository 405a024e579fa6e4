"""Match the form of an answer, such as think and answer tags, without a verdict on right and wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmrl.types import Problem, Score

PATTERN = r"<think>(?:(?!</?think>|</?answer>).)*</think>\s*<answer>(?:(?!</?think>|</?answer>).)*</answer>"


@dataclass(frozen=True)
class Format:
    """1.0 if the whole answer matches `pattern`, else 0.0; the verdict stays None.

    The default demands thoughts in a pair of think tags, then the answer in a pair of answer tags, and nothing else.
    """

    pattern: str = PATTERN  # a regular expression; a dot matches line ends too

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from None

    def __call__(self, problem: Problem, text: str) -> Score:
        right = re.fullmatch(self.pattern, text.strip(), re.DOTALL) is not None
        return Score(float(right), reason="" if right else "the answer does not have the form asked for")


plugin = Format
