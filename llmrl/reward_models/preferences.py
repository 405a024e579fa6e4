"""Rows that reward models of whole answers learn from: pairs of a better and a worse answer, and labelled answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llmrl.datafiles.messages import message_of
from llmrl.datafiles.rows import Row, file_rows
from llmrl.errors import DataError
from llmrl.reward_models.rows import AnswerRow, LabelledRow, PreferencePair, Rows
from llmrl.types import Message

TURN = "\n\nAssistant:"
"""What begins an answer in conversations written as one text, as Anthropic's HH-RLHF has them."""
NAMED = {"prompt", "chosen", "rejected", "margin", "problem", "id", "response", "completion", "label"}


def pairs(path: str | Path, limit: int | None = None) -> Rows[PreferencePair]:
    """Read pairs of TRL's preference columns: `prompt`, `chosen`, `rejected`, and `margin` where there is one.

    Answers are texts or lists of messages. Without `prompt` the beginning that both conversations share is the prompt,
    which must leave one message of the assistant each. All other columns are variables of the template.

    Raises:
        DataError: a row lacks a column, or holds neither text nor messages.
    """
    found: Rows[PreferencePair] = Rows([])
    for row in islice(file_rows(Path(path)), limit):
        parted = _parted(row)
        if parted is None:
            found.rejected["no shared prompt"] += 1
            continue
        prompt, chosen, rejected = parted
        margin = row.values.get("margin")
        if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
            raise DataError(f"{row.where}: column 'margin' holds {type(margin).__name__}; expected a number")
        if reason := _rejected(chosen, rejected, margin):
            found.rejected[reason] += 1
            continue
        rest = variables(row)
        found.kept.append(
            PreferencePair(
                chosen=AnswerRow(prompt=prompt, response=chosen, variables=rest),
                rejected=AnswerRow(prompt=prompt, response=rejected, variables=rest),
                margin=None if margin is None else float(margin),
                problem=problem(row, prompt),
            )
        )
    return found


def outcomes(path: str | Path, limit: int | None = None) -> Rows[LabelledRow]:
    """Read answers with an outcome: `prompt`, `response` (or `completion`), and `label`, 0 or 1, or between.

    Raises:
        DataError: a row that lacks a column, or holds another type.
    """
    found: Rows[LabelledRow] = Rows([])
    for row in islice(file_rows(Path(path)), limit):
        prompt = conversation(row, "prompt")
        response = _answer(row, "response" if "response" in row.values else "completion")
        label = row.values.get("label")
        if not isinstance(label, bool | int | float) or not 0 <= label <= 1:
            raise DataError(f"{row.where}: column 'label' holds {label!r}; expected 0 to 1, true or false")
        if not response.strip():
            found.rejected["empty response"] += 1
            continue
        answer = AnswerRow(prompt=prompt, response=response, variables=variables(row))
        found.kept.append(LabelledRow(answer=answer, labels=[float(label)], problem=problem(row, prompt)))
    return found


def balanced(rows: Sequence[LabelledRow], most: int) -> Rows[LabelledRow]:
    """Keep the first right and as many wrong answers of each problem, at most `most` each; drop one-sided problems.

    A verifier that sees a problem's answers all right or all wrong learns to recognise the problem, not the answer.
    """
    sides: dict[str, tuple[list[LabelledRow], list[LabelledRow]]] = {}
    for row in rows:
        sides.setdefault(row.problem, ([], []))[row.labels[0] >= 0.5].append(row)
    kept, rejected = [], Counter[str]()
    for wrong, right in sides.values():
        count = min(most, len(wrong), len(right))
        kept += [*right[:count], *wrong[:count]]
        rejected["only right or only wrong" if not count else "balanced away"] += len(wrong) + len(right) - 2 * count
    return Rows(kept, +rejected)


def problem(row: Row, prompt: str | Sequence[Message]) -> str:
    """Key that answers to the same problem share: the column `problem`, or the prompt."""
    named = row.values.get("problem")
    if isinstance(named, str):
        return named
    return prompt if isinstance(prompt, str) else repr([dict(message) for message in prompt])


def variables(row: Row) -> dict[str, Any]:
    """Other columns, which a template may read."""
    return {name: value for name, value in row.values.items() if name not in NAMED}


def conversation(row: Row, column: str) -> str | list[Message]:
    """Read a prompt, as text or as messages.

    Raises:
        DataError: it is missing, empty, or neither.
    """
    value = row.values.get(column)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value:
        return _messages(value, f"{row.where}: column {column!r}")
    raise DataError(f"{row.where}: column {column!r} holds {value!r:.60}; expected text or a list of messages")


def _answer(row: Row, column: str) -> str:
    """Read an answer: a text, or the only message of a list."""
    value = row.values.get(column)
    if isinstance(value, list) and len(value) == 1:
        value = _messages(value, f"{row.where}: column {column!r}")[0]["content"]
    if not isinstance(value, str):
        holds = "nothing" if value is None else f"{value!r:.60}"
        raise DataError(f"{row.where}: column {column!r} holds {holds}; expected text, or one message of the assistant")
    return value


def _parted(row: Row) -> tuple[str | list[Message], str, str] | None:
    """Split conversations into prompt, better and worse answer; None where they differ before the last answer."""
    if "prompt" in row.values:
        return conversation(row, "prompt"), _answer(row, "chosen"), _answer(row, "rejected")
    chosen, rejected = row.values.get("chosen"), row.values.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        cut = chosen.rfind(TURN) + len(TURN)
        if cut >= len(TURN) and rejected.startswith(chosen[:cut]) and TURN not in rejected[cut:]:
            return chosen[:cut], chosen[cut:].strip(), rejected[cut:].strip()
        return None
    if isinstance(chosen, list) and isinstance(rejected, list):
        chosen, rejected = _messages(chosen, f"{row.where}: chosen"), _messages(rejected, f"{row.where}: rejected")
        shared = len(chosen) - 1
        if shared >= 1 and len(rejected) == len(chosen) and chosen[:shared] == rejected[:shared]:
            return chosen[:shared], chosen[-1]["content"], rejected[-1]["content"]
        return None
    raise DataError(
        f"{row.where}: expected `chosen` and `rejected`, both texts or both lists of messages; found "
        f"{', '.join(row.values) or 'none'}"
    )


def _rejected(chosen: str, rejected: str, margin: float | None) -> str:
    if not chosen.strip() or not rejected.strip():
        return "empty response"
    if chosen.split() == rejected.split():
        return "chosen equals rejected"
    return "margin is not finite" if margin is not None and not math.isfinite(margin) else ""


def _messages(values: Sequence[Any], where: str) -> list[Message]:
    return [message_of(value, f"{where}: message {number}") for number, value in enumerate(values)]
