"""Issues of Python projects with the tests of their repairs: SWE-bench Lite and Verified, and files like them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmrl.datafiles.rows import Origin, Row, ask, known_rows, problems
from llmrl.types import Problem

FILES = {
    "lite": ("swebench/lite_test.jsonl.gz", "SWE-bench/SWE-bench_Lite"),
    "verified": ("swebench/verified_test.jsonl.gz", "SWE-bench/SWE-bench_Verified"),
}


@dataclass(frozen=True, kw_only=True)
class SweBench:
    """Instances to test with, as they are: `messages` is the issue alone, `info` all columns, `answer` the gold patch.

    Source: Jimenez et al. 2024 (arXiv 2310.06770); Verified: Chowdhury et al. 2024.
    """

    subset: Literal["lite", "verified"] = "lite"
    path: str | None = None  # a file with the same columns, instead of looking for one

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file.

        Raises:
            DataError: the file is not found, or a row lacks a column.
        """
        file, hub = FILES[self.subset]
        return problems(known_rows(Origin(file=file, hub=hub, split="test", path=self.path)), self._problem)

    def _problem(self, row: Row) -> Problem:
        return Problem(
            id=row.text("instance_id"),
            messages=ask(row.text("problem_statement"), ""),
            answer=row.text("patch"),
            info=dict(row.values),
        )


plugin = SweBench
