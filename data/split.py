"""A dataset in two parts, one to train on and one to be evaluated on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil
from typing import Any, Literal

from llmrl.errors import DataError
from llmrl.plugins import build
from llmrl.recipe.ranges import Positive, Seed
from llmrl.types import Problem


@dataclass(frozen=True, kw_only=True)
class Split:
    """The problems of one part of `of`, in its order; the other part has all others.

    A hash of seed and id chooses, so which part a problem is in depends on nothing that comes after it in the file but
    through the number of problems that are held out.
    """

    of: Mapping[str, Any] = field(hash=False)  # a dataset and its options
    part: Literal["train", "test"] = "train"
    test_size: Positive = 0.1  # problems of the part `test`: below 1 a share, rounded up, else their number
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.test_size >= 1 and self.test_size % 1:
            raise ValueError(f"test_size {self.test_size}: expected a share below 1, or a whole number")

    def problems(self) -> Iterator[Problem]:
        """Yield the part's problems.

        Raises:
            DataError: one of the parts would be empty.
        """
        given: list[Problem] = list(build("data", self.of, "data.of").problems())
        held_out = ceil(self.test_size * len(given)) if self.test_size < 1 else int(self.test_size)
        if held_out >= len(given):
            raise DataError(
                f"data split: test_size {self.test_size:g} of {len(given)} problems leaves none to train on; expected "
                "less, or more problems"
            )
        test = set(sorted((problem.id for problem in given), key=self._place)[:held_out])
        return (problem for problem in given if (problem.id in test) == (self.part == "test"))

    def _place(self, id: str) -> bytes:
        return blake2b(f"{self.seed}/{id}".encode(), digest_size=16).digest()


plugin = Split
