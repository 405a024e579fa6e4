"""Grade-school word problems with a number for an answer (Cobbe et al. 2021, arXiv 2110.14168)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmrl.datafiles.rows import BOXED, Origin, Row, ask, file_rows, known_rows, problems, tiny
from llmrl.errors import DataError
from llmrl.types import Problem


@dataclass(frozen=True)
class Gsm8k:
    """7,473 problems to train on and 1,319 to test with; `info["solution"]` is the worked reference."""

    split: Literal["train", "test", "tiny"] = "train"
    path: str | None = None  # a file with the columns of the original, instead of looking for one
    instruction: str = BOXED  # a line after the question; "" for none

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file.

        Raises:
            DataError: the file is not found, or a row has no question or no final `#### number`.
        """
        origin = Origin(
            file=f"gsm8k/{self.split}.jsonl", hub="openai/gsm8k", config="main", split=self.split, path=self.path
        )
        shipped = self.split == "tiny" and self.path is None
        return problems(file_rows(tiny("gsm8k")) if shipped else known_rows(origin), self._problem)

    def _problem(self, row: Row) -> Problem:
        solution = row.text("answer")
        _, mark, number = solution.rpartition("####")
        if not mark or not number.strip():
            raise DataError(f"{row.where}: column 'answer' has no final `#### number`; found {solution[-60:]!r}")
        return Problem(
            id=str(row.values.get("id") or f"gsm8k/{self.split}/{row.index}"),
            messages=ask(row.text("question"), self.instruction),
            answer=number.strip().replace(",", ""),
            info={"solution": solution},
        )


plugin = Gsm8k
