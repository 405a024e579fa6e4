"""The 500 problems of MATH test that are used most (Lightman et al. 2023, arXiv 2305.20050)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmrl.data._maths import maths_problems
from llmrl.data._rows import BOXED, Origin
from llmrl.types import Problem


@dataclass(frozen=True)
class Math500:
    """500 problems to test with; `subject`, `level` and `solution` are in `info`."""

    split: Literal["test", "tiny"] = "test"
    path: str | None = None  # a file with the columns of the original, instead of looking for one
    instruction: str = BOXED  # a line after the problem; "" for none

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file.

        Raises:
            DataError: the file is not found, or a row has no problem or no answer.
        """
        origin = Origin(
            file="math/math500.jsonl", hub="HuggingFaceH4/MATH-500", split=self.split, hub_split="test", path=self.path
        )
        return maths_problems(origin, "math500", "math", self.instruction)


plugin = Math500
