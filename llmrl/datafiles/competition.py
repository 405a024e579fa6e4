"""Problems of mathematics whose final answer stands in a box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from llmrl.datafiles.rows import BOXED, Origin, Row, ask, file_rows, known_rows, problems, tiny
from llmrl.errors import DataError
from llmrl.types import Problem

# The solutions of two problems of MATH train (number_theory 7115, 7117) show that no prime exists, then box nothing.
EMPTY_BOXES = {
    "For any integer $n>1$, the number of prime numbers greater than $n!+1$": "0",
    "You are given a sequence of $58$ terms; each term has the form $P+n$": "0",
}


@dataclass(frozen=True)
class MathsTest:
    """Problems to test with, never to train on; each such dataset is a child that names its source."""

    name: ClassVar[str]  # ids of rows without one begin with it
    shipped: ClassVar[str]  # the file in `data/tiny` of the split `tiny`
    origin: ClassVar[Origin]  # of the split `test`

    split: Literal["test", "tiny"] = "test"
    path: str | None = None  # a file with the columns of the original, instead of looking for one
    instruction: str = BOXED  # a line after the problem; "" for none

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file.

        Raises:
            DataError: the file is not found, or a row has no problem or no answer.
        """
        origin = replace(self.origin, split=self.split, path=self.path)
        return maths_problems(origin, self.name, self.shipped, self.instruction)


def maths_problems(origin: Origin, name: str, rows: str, instruction: str) -> Iterator[Problem]:
    """Problems of `problem`, `answer` or a boxed `solution`, and, where there are any, `subject` and `level` 1 to 5.

    Args:
        origin: where the rows are looked for, unless its split is `tiny`.
        name: ids of rows without one begin with it.
        rows: the file in `data/tiny` to read for the split `tiny`.
        instruction: a line after the problem.
    Raises:
        DataError: nothing found, or a row without problem or answer.
    """
    shipped = origin.split == "tiny" and origin.path is None
    source = file_rows(tiny(rows)) if shipped else known_rows(origin)
    return problems(source, lambda row: _problem(row, f"{name}/{origin.split}", instruction))


def last_boxed(text: str) -> str | None:
    """Content of the last `\\boxed{...}`, braces matched; None where there is none or it never closes."""
    start = text.rfind("\\boxed{")
    depth = 0
    for end in range(start + len("\\boxed"), len(text) if start >= 0 else 0):
        if text[end] in "{}" and text[end - 1] != "\\":
            depth += 1 if text[end] == "{" else -1
            if depth == 0:
                return text[start + len("\\boxed{") : end]
    return None


def _problem(row: Row, prefix: str, instruction: str) -> Problem:
    question = row.text("problem", "question").strip()
    own = row.values.get("unique_id", row.values.get("id"))
    info = {"subject": row.values.get("subject", row.values.get("type")), "level": _level(row.values.get("level"))}
    kept = {key: value for key, value in info.items() if value is not None}
    if row.values.get("solution"):
        kept["solution"] = row.text("solution")
    return Problem(
        id=own if isinstance(own, str) and own else f"{prefix}/{row.index if own is None else own}",
        messages=ask(question, instruction),
        answer=_answer(row, question),
        info=kept,
    )


def _answer(row: Row, question: str) -> str:
    for start, answer in EMPTY_BOXES.items():
        if question.startswith(start):
            return answer
    if row.values.get("answer") is not None:
        return row.text("answer").strip()
    boxed = last_boxed(row.text("answer", "solution"))
    if not boxed:
        raise DataError(f"{row.where}: no column 'answer', and the last box of 'solution' is missing or empty")
    return boxed.strip()


def _level(value: object) -> int | None:
    """Parse a level: 5 of `5` and of `"Level 5"`; None where it is unknown."""
    digits = str(value).removeprefix("Level ").strip()
    return int(digits) if digits.isdigit() else None
