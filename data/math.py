"""Competition problems of seven subjects and five levels (Hendrycks et al. 2021, arXiv 2103.03874)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmrl.datafiles.competition import maths_problems
from llmrl.datafiles.rows import BOXED, Origin
from llmrl.types import Problem


@dataclass(frozen=True)
class Math:
    """7,500 problems to train on and 5,000 to test with; `subject`, `level` and `solution` are in `info`."""

    split: Literal["train", "test", "tiny"] = "train"
    path: str | None = None  # a file with the columns of the original, instead of looking for one
    instruction: str = BOXED  # a line after the problem; "" for none

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file.

        Raises:
            DataError: the file is not found, or a row has no problem or no answer.
        """
        origin = Origin(
            file=f"math/{self.split}.jsonl.gz",
            hub="DigitalLearningGmbH/MATH-lighteval",
            split=self.split,
            path=self.path,
        )
        return maths_problems(origin, "math", "math", self.instruction)


plugin = Math
