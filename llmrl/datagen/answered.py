"""Read prompts with several answers each; rows that cannot be used are named and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.data.jsonl import ANSWERS, PROMPTS, messages
from llmrl.datafiles.rows import Row, file_rows
from llmrl.errors import DataError
from llmrl.types import Problem

RESPONSES = ("response", "completion")


@dataclass(frozen=True, slots=True)
class Answered:
    """A problem and the answers to it."""

    problem: Problem
    responses: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Refused:
    """Rows left out: counts by reason, and the first places."""

    counts: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)

    def add(self, where: str, reason: str, detail: str = "") -> None:
        """Count a row that is left out, and keep its place if it is among the first."""
        self.counts[reason] += 1
        if len(self.places) < 20:
            self.places.append(f"{where}: {reason}{detail and ': '}{detail}")


def read(path: Path, refused: Refused) -> list[Answered]:
    """The problems of a file, each with its answers, in the order of their first rows.

    A row has `prompt` (text or messages) and `responses`, a list; or one `response` or `completion`, and then rows of
    the same `problem`, `id` or prompt are answers to one problem, as `llmrl eval --samples 8` writes them. `answer` is
    the reference; all other columns are `info`. Empty and repeated answers, and rows without any, are refused.

    Raises:
        DataError: the file cannot be read, or no row of it can be used.
    """
    by_id: dict[str, Answered] = {}
    for row in file_rows(path):
        try:
            problem, answers = _problem(row), _answers(row)
        except DataError as error:
            refused.add(row.where, "a row that cannot be read", str(error).removeprefix(f"{row.where}: "))
            continue
        answered = by_id.setdefault(problem.id, Answered(problem))
        if answered.problem.messages != problem.messages:
            refused.add(row.where, "another prompt under an id that was seen", repr(problem.id))
            continue
        seen = {" ".join(text.split()) for text in answered.responses}
        for text in answers:
            plain = " ".join(text.split())
            if not plain or plain in seen:
                refused.add(row.where, "an answer that was seen" if plain else "an empty answer")
                continue
            seen.add(plain)
            answered.responses.append(text)
    if not any(answered.responses for answered in by_id.values()):
        raise DataError(f"{path}: no row with a prompt and an answer; the first: {'; '.join(refused.places[:1])}")
    return list(by_id.values())


def _problem(row: Row) -> Problem:
    column = next((name for name in PROMPTS if name in row.values), None)
    if column is None:
        raise DataError(f"{row.where}: no prompt; found {', '.join(row.values) or 'nothing'}")
    prompt = messages(row.values[column], "", row.where)
    key = next((row.values[name] for name in ("id", "problem") if name in row.values and name != column), None)
    reference = next((row.values[name] for name in ANSWERS if row.values.get(name) is not None), "")
    info = row.values.get("info")
    rest = {name: value for name, value in row.values.items() if name not in (column, "id", "responses", *RESPONSES)}
    return Problem(
        id=str(key if key is not None else prompt),
        messages=prompt,
        answer=str(reference),
        info={**rest, **(info if isinstance(info, Mapping) else {})},
    )


def _answers(row: Row) -> Sequence[str]:
    answers: Any = row.values.get("responses")
    if answers is None:
        answers = [next((row.values[name] for name in RESPONSES if name in row.values), None)]
    if not isinstance(answers, list) or not all(isinstance(text, str) for text in answers):
        raise DataError(f"{row.where}: no answers; expected `responses`, a list of texts, or `response`, a text")
    return answers
