"""The American Invitational Mathematics Examination of 2024, both papers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmrl.data._maths import maths_problems
from llmrl.data._rows import BOXED, Origin
from llmrl.types import Problem


@dataclass(frozen=True)
class Aime24:
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
            file="aime/aime24.jsonl", hub="HuggingFaceH4/aime_2024", split=self.split, hub_split="train", path=self.path
        )
        return maths_problems(origin, "aime24", "competition", self.instruction)


plugin = Aime24
