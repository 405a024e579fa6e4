"""The American Invitational Mathematics Examination of 2025, both papers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmrl.data._maths import maths_problems
from llmrl.data._rows import BOXED, Origin
from llmrl.types import Problem


@dataclass(frozen=True)
class Aime25:
    """30 problems to test with; answers are whole numbers from 0 to 999."""

    split: Literal["test", "tiny"] = "test"
    path: str | None = None  # a file with the columns of the original, instead of looking for one
    instruction: str = BOXED  # a line after the problem; "" for none

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file.

        Raises:
            DataError: the file is not found, or a row has no problem or no answer.
        """
        origin = Origin(
            file="aime/aime25.jsonl", hub="math-ai/aime25", split=self.split, hub_split="test", path=self.path
        )
        return maths_problems(origin, "aime25", "competition", self.instruction)


plugin = Aime25
