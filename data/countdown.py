"""The Countdown game: reach a target from three or four numbers (rows of TinyZero, Pan et al. 2025)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmrl.datafiles.rows import Origin, Row, ask, file_rows, known_rows, problems, tiny
from llmrl.errors import DataError
from llmrl.types import Problem

TEMPLATE = (
    "Reach {target} from the numbers {nums} with +, -, * and / and brackets; use every number exactly once. "
    "Think inside <think> </think>, then write nothing but the expression inside <answer> </answer>, such as "
    "<answer> (5 + 3) * 2 </answer>."
)


@dataclass(frozen=True)
class Countdown:
    """8,001 puzzles to train on and 2,001 to test with, 5 of which stand in both; the hub has one split, `train`.

    The reward reads `nums` and `target` in `info`; `solution` is there too where the file has one.
    """

    split: Literal["train", "test", "tiny"] = "train"
    path: str | None = None  # a file of rows with nums and target, instead of looking for one
    template: str = TEMPLATE

    def problems(self) -> Iterator[Problem]:
        """Puzzles in the order of the file.

        Raises:
            DataError: the file is not found, or a row has no list of whole numbers or no whole target.
        """
        origin = Origin(
            file=f"countdown/{self.split}.jsonl",
            hub="Jiayi-Pan/Countdown-Tasks-3to4",
            split=self.split,
            path=self.path,
        )
        shipped = self.split == "tiny" and self.path is None
        return problems(file_rows(tiny("countdown")) if shipped else known_rows(origin), self._problem)

    def _problem(self, row: Row) -> Problem:
        nums, target = row.values.get("nums"), row.values.get("target")
        if not isinstance(nums, list) or not nums or not all(map(_whole, [*nums, target])):
            raise DataError(
                f"{row.where}: expected nums, a list of whole numbers, and target, a whole number; "
                f"found nums {nums!r} and target {target!r}"
            )
        solution = row.text("one_solution") if row.values.get("one_solution") else ""
        return puzzle(
            str(row.values.get("id") or f"countdown/{self.split}/{row.index}"),
            nums,
            int(str(target)),
            solution,
            self.template,
        )


def puzzle(name: str, nums: Sequence[int], target: int, solution: str, template: str) -> Problem:
    """Make the problem as the reward `countdown` reads it; `solution` "" is none."""
    info: dict[str, Any] = {"nums": list(nums), "target": target, "count": len(nums)}
    return Problem(
        id=name,
        messages=ask(template.format(nums=", ".join(map(str, nums)), target=target), ""),
        answer=str(target),
        info=info | {"solution": solution} if solution else info,
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


plugin = Countdown
