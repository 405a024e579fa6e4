"""The game of 24: make 24 from four numbers (puzzles and ranks as in Tree of Thoughts, Yao et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmrl.datafiles.rows import Row, ask, file_rows, folders, problems, tiny
from llmrl.errors import DataError
from llmrl.types import Problem

FILE = "game24/puzzles.jsonl"
TEST = range(901, 1001)  # ranks by how often people solve a puzzle; the paper tests on these
TEMPLATE = (
    "Use the numbers {nums} and +, -, *, / and brackets to make 24; use every number exactly once. Think first, then "
    "write nothing but the expression inside <answer> </answer>, such as <answer> (7 - 1) * 8 / 2 </answer>."
)


@dataclass(frozen=True)
class Game24:
    """1,362 puzzles, all that four numbers from 1 to 13 allow: those of ranks 901 to 1000 to test with.

    The reward `game24` reads `nums` in `info`; `rank` and `solution` are there too where the file has them.
    """

    split: Literal["train", "test", "all", "tiny"] = "train"
    path: str | None = None  # a file of rows with nums and rank, instead of looking for one
    template: str = TEMPLATE

    def problems(self) -> Iterator[Problem]:
        """Puzzles in the order of the file, which is by rank.

        Raises:
            DataError: the file is not found, a row has no four whole numbers, or no rank where the split asks for it.
        """
        shipped = self.split == "tiny" and self.path is None
        rows = file_rows(tiny("game24") if shipped else self._file())
        return problems((row for row in rows if self._in_split(row)), self._problem)

    def _file(self) -> Path:
        places = [Path(self.path)] if self.path else [folder / FILE for folder in folders()]
        if found := next((place for place in places if place.is_file()), None):
            return found
        raise DataError(
            f"{FILE} was not found: no such file as {', '.join(map(str, places))}; set LLMRL_DATA to a folder that "
            "holds it, or give as `path` a .jsonl file of rows with nums and rank (it is on no hub)"
        )

    def _in_split(self, row: Row) -> bool:
        if self.split in ("all", "tiny"):
            return True
        rank = row.values.get("rank")
        if not isinstance(rank, int):
            raise DataError(f"{row.where}: expected rank, a whole number that decides the split; found {rank!r}")
        return (rank in TEST) == (self.split == "test")

    def _problem(self, row: Row) -> Problem:
        nums = row.values.get("nums")
        whole = isinstance(nums, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in nums)
        if not isinstance(nums, list) or len(nums) != 4 or not whole:
            raise DataError(f"{row.where}: expected nums, a list of four whole numbers; found nums {nums!r}")
        known = {"rank": row.values.get("rank"), "solution": row.values.get("one_solution")}
        return Problem(
            id=str(row.values.get("id") or f"game24/{self.split}/{row.index}"),
            messages=ask(self.template.format(nums=", ".join(map(str, nums))), ""),
            answer="24",
            info={"nums": nums, "target": 24} | {key: value for key, value in known.items() if value},
        )


plugin = Game24
