"""Short functions from a sentence, judged by three assertions each (Austin et al. 2021, arXiv 2108.07732)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmrl.datafiles.rows import Origin, Row, ask, file_rows, known_rows, problems, tiny
from llmrl.errors import DataError
from llmrl.recipe.ranges import Whole
from llmrl.types import Problem


@dataclass(frozen=True)
class Mbpp:
    """374 problems to train on, 90 to validate, 500 to test with, 10 for few-shot prompts; the reward is `code`.

    The sentence does not name the function: `shown_tests` assertions do. A shown assertion can be passed by a
    constant, so that the others should stay hidden: one is shown, not the usual three.
    """

    split: Literal["train", "validation", "test", "prompt", "tiny"] = "train"
    path: str | None = None  # a file with the columns of the original, instead of looking for one
    shown_tests: Whole = 1
    challenge: bool = False  # add the few harder assertions that some rows have

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file; `answer` is the reference program.

        Raises:
            DataError: the file is not found, or a row has no text, code or list of tests.
        """
        origin = Origin(
            file="mbpp/mbpp.jsonl",
            hub="google-research-datasets/mbpp",
            config="full",
            split=self.split,
            path=self.path,
        )
        shipped = self.split == "tiny" and self.path is None
        rows = file_rows(tiny("mbpp")) if shipped else known_rows(origin)
        return problems((row for row in rows if row.values.get("split", self.split) == self.split), self._problem)

    def _problem(self, row: Row) -> Problem:
        tests = row.values.get("test_list")
        if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
            raise DataError(f"{row.where}: expected test_list, a list of assertions; found {tests!r}")
        more = list(row.values.get("challenge_test_list") or ()) if self.challenge else []
        shown = "".join(f"\n{test}" for test in tests[: self.shown_tests])
        calls = f"\nIt must satisfy:\n```python{shown}\n```" if shown else ""
        code = row.text("code")
        setup = str(row.values.get("test_setup_code") or "")
        return Problem(
            id=f"mbpp/{row.text('task_id')}",
            messages=ask(f"{row.text('text')}{calls}", "Answer with one block of Python."),
            answer=code,
            info={"test_list": tests + more, "test_setup_code": setup, "code": code},
        )


plugin = Mbpp
