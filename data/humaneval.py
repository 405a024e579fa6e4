"""Functions to complete from their signature and docstring, judged by tests (Chen et al. 2021, arXiv 2107.03374)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmrl.datafiles.rows import Origin, Row, ask, file_rows, known_rows, problems, tiny
from llmrl.types import Problem

INSTRUCTION = "Complete this function. Answer with the whole program in one block of Python."


@dataclass(frozen=True)
class HumanEval:
    """164 problems to test with; the reward `code` reads `prompt`, `test` and `entry_point` from `info`.

    `form: chat` asks in words; `form: completion` shows the code alone, for models that were not taught to chat.
    """

    split: Literal["test", "tiny"] = "test"
    path: str | None = None  # a file with the columns of the original, instead of looking for one
    form: Literal["chat", "completion"] = "chat"

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file; `answer` is the body of the reference.

        Raises:
            DataError: the file is not found, or a row lacks a column.
        """
        origin = Origin(
            file="humaneval/HumanEval.jsonl", hub="openai/openai_humaneval", split=self.split, path=self.path
        )
        shipped = self.split == "tiny" and self.path is None
        return problems(file_rows(tiny("humaneval")) if shipped else known_rows(origin), self._problem)

    def _problem(self, row: Row) -> Problem:
        prompt = row.text("prompt")
        asked = ask(prompt, "") if self.form == "completion" else ask(f"{INSTRUCTION}\n```python\n{prompt}```", "")
        return Problem(
            id=row.text("task_id"),
            messages=asked,
            answer=row.text("canonical_solution"),
            info={"prompt": prompt, "test": row.text("test"), "entry_point": row.text("entry_point")},
        )


plugin = HumanEval
