"""Pass rates of problems, by the records of an evaluation."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from llmrl.datafiles.rows import Row, file_rows
from llmrl.errors import DataError
from llmrl.types import is_correct


def pass_rates(path: Path) -> dict[str, Fraction]:
    """Share of right completions of each problem that has a judged one, by problem id.

    Raises:
        DataError: the file cannot be read, or a line is no record of an evaluation.
    """
    judged: dict[str, list[bool]] = {}
    for row in file_rows(path):
        problem, right = _record(row)
        if right is not None:
            judged.setdefault(problem, []).append(right)
    return {problem: Fraction(sum(each), len(each)) for problem, each in judged.items()}


def _record(row: Row) -> tuple[str, bool | None]:
    """Read a record: the problem's id, and whether the completion is right; None where it could not be judged."""
    missing = [key for key in ("problem", "verdict", "value") if key not in row.values]
    if missing or not isinstance(row.values["problem"], str):
        raise DataError(
            f"{row.where}: no record of an evaluation: expected problem, verdict and value, as `llmrl eval` writes, "
            f"found {', '.join(row.values) or 'nothing'}"
        )
    return row.values["problem"], None if row.values["value"] is None else is_correct(row.values["verdict"]) is True
