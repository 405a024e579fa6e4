"""Issues of repositories with files and the change that resolved them: prompts of SWE-RL (arXiv 2502.18449)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmrl.datafiles.rows import Row, file_rows, problems, tiny
from llmrl.swe.prompt import messages
from llmrl.swe.rows import read_row
from llmrl.types import Problem


@dataclass(frozen=True)
class Swe:
    """Rows that `llmrl data swe` wrote; the reward `swe_similarity` reads `files` and `oracle_new` from `info`."""

    path: str | None = None  # a file of rows
    split: Literal["train", "tiny"] = "train"  # tiny: eight rows that ship, without a path
    system: bool = True  # the form of the answer is asked for in a system message

    def __post_init__(self) -> None:
        if self.path is None and self.split != "tiny":
            raise ValueError("expected path, a file that `llmrl data swe` wrote")

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file; `answer` is the patch.

        Raises:
            DataError: a row lacks a column, or an edited file is not among its files.
        """
        return problems(file_rows(tiny("swe") if self.path is None else Path(self.path)), self._problem)

    def _problem(self, row: Row) -> Problem:
        repair = read_row(row.values, row.where)
        info = {name: value for name, value in row.values.items() if name not in ("id", "patch")}
        asked = messages(repair.issue_title, repair.issue_body, repair.files, system=self.system)
        return Problem(id=repair.id, messages=asked, answer=repair.patch, info=info)


plugin = Swe
