"""Any file or hub dataset as problems, by naming its columns or by the names that are in common use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from llmrl.datafiles import images
from llmrl.datafiles.messages import message_of
from llmrl.datafiles.rows import Row, as_text, file_rows, hub_rows, problems
from llmrl.errors import DataError
from llmrl.types import Message, Problem

PROMPTS = ("prompt", "messages", "problem", "question", "input")
ANSWERS = ("reward_model.ground_truth", "final_answer", "answer", "solution", "label", "ground_truth", "target")


@dataclass(frozen=True)
class Jsonl:
    """Problems of a .jsonl, .json or .parquet file, or of a hub dataset.

    Columns that are not named are recognised: prompts as TRL, verl (`prompt`, `reward_model.ground_truth`) and OpenRLHF
    (`input`, `label`) call them. All columns pass untouched to `Problem.info`, but for those that rewards get anyway:
    prompts called `prompt` or `messages`, and texts called `answer` or `id`. Inside an object an answer may be of any
    type, and `Problem.answer` is then its JSON. A dataset without answers is fine for rewards that need none; with one,
    every row must have it.
    """

    path: str | None = None  # a file
    dataset_name: str | None = None  # or a name on the hub
    dataset_config: str | None = None
    split: str = "train"  # of the hub dataset
    prompt_column: str | None = None  # text, or a list of messages; dots reach into objects
    answer_column: str | None = None
    image_column: str | None = None  # pictures of the prompt; None: images or image; "": it has none
    id_column: str = "id"  # where a row has none, it is the file's name and the row's number
    instruction: str = ""  # a line after the last user message

    def __post_init__(self) -> None:
        if (self.path is None) == (self.dataset_name is None):
            raise ValueError("expected either path (a file) or dataset_name (on the hub)")

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the rows.

        Raises:
            DataError: a broken row: no JSON, no such column, an empty prompt, a wrong type, an id seen before.
        """
        if self.path is not None:
            rows = file_rows(Path(self.path))
        else:
            rows = hub_rows(str(self.dataset_name), self.dataset_config, self.split)
        return problems(self.resolved(rows), self.problem)

    def resolved(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Convert rows to `id`, `prompt`, `answer`, `info` and `plain`; the first row decides which they are."""
        prompt, answer, first = self.prompt_column, self.answer_column, None
        for row in rows:
            if first is None:
                first, prompt, answer = row, prompt or _first(row, PROMPTS), answer or _first(row, ANSWERS)
            if prompt is None:
                raise DataError(
                    f"{row.where}: no prompt column; expected one of {', '.join(PROMPTS)}, found "
                    f"{', '.join(row.values) or 'none'}; name it with prompt_column"
                )
            if self.answer_column is None:
                _require_no_other(row, first, answer)
            values = {
                "id": row.values.get(self.id_column),
                "prompt": _reach(row, prompt),
                "answer": _answer(row, answer) if answer else "",
                "info": {key: value for key, value in row.values.items() if not self._told(key, value, prompt, answer)},
                "plain": prompt == "prompt" and isinstance(row.values.get(prompt), str),
                "images": self._images(row),
            }
            yield replace(row, values=values)

    def _images(self, row: Row) -> Any:
        """The row's pictures, as the data has them; None where it has none.

        Raises:
            DataError: no such column.
        """
        if self.image_column is None:
            return images.column_of(row.values)
        return _reach(row, self.image_column) if self.image_column else None

    def _told(self, key: str, value: Any, prompt: str, answer: str | None) -> bool:
        """Tell if a column reaches rewards without `info`, as the data has it: as the prompt, the answer or the id."""
        if key == prompt:
            return key in ("prompt", "messages")
        if key in (images.COLUMNS if self.image_column is None else (self.image_column,)):
            return True
        return isinstance(value, str) and ((key == answer == "answer") or (key == self.id_column == "id"))

    def problem(self, row: Row) -> Problem:
        """The problem of a row that `resolved` gave."""
        name = row.values["id"]
        if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
            raise DataError(f"{row.where}: column {self.id_column!r} holds {type(name).__name__}; expected text")
        pictures = Pictures(row.values["images"], row.folder)
        conversation = messages(row.values["prompt"], self.instruction, row.where, pictures)
        seen = images.images_of(conversation)
        origin = Path(self.path).name.partition(".")[0] if self.path else f"{self.dataset_name}/{self.split}"
        return Problem(
            id=f"{origin}/{row.index}" if name is None else str(name),
            messages=conversation,
            answer=row.values["answer"],
            info=row.values["info"] | ({"images": list(seen)} if seen else {}),
            plain=row.values["plain"],
        )


class Pictures(NamedTuple):
    """Pictures that a conversation may have."""

    column: Any = None  # those beside it; None: it has its own alone
    folder: Path | None = None  # from which their paths go out


def messages(prompt: Any, instruction: str, where: str, pictures: Pictures | None = None) -> list[Message]:
    """Make a conversation for the policy to answer, of a text or a list of messages.

    Raises:
        DataError: it is neither, it is empty, or it ends with a message of the assistant; it has pictures, and none are
            read, or they do not fit their places.
    """
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list) or not prompt:
        found = "an empty list" if prompt == [] else type(prompt).__name__
        raise DataError(f"{where}: the prompt is {found}; expected text or a list of messages")
    conversation = [
        dict(message_of(message, f"{where}: message {index}", pictures=pictures is not None))
        for index, message in enumerate(prompt)
    ]
    last = conversation[-1]
    if last["role"] == "assistant":
        raise DataError(f"{where}: the prompt ends with the assistant's words; expected it to end before them")
    if not str(last["content"]).strip():
        raise DataError(f"{where}: the prompt is empty; expected text")
    if instruction:
        last["content"] = f"{last['content']}\n{instruction}"
    if pictures is None:
        return list(conversation)
    try:
        return images.filled(conversation, *pictures)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _require_no_other(row: Row, first: Row, answer: str | None) -> None:
    """Refuse a row with an answer in a column that would be meant, had the first row a value there.

    Raises:
        DataError: it has one.
    """
    better = ANSWERS if answer is None else ANSWERS[: ANSWERS.index(answer)]
    if row is first or (other := _first(row, better)) is None:
        return
    chosen = f"its answer is in {answer!r}" if answer else "it has no answer"
    raise DataError(
        f"{row.where}: column {other!r} has a value, and at {first.where} it has none, so that {chosen}; fill the "
        "column, or choose one by answer_column"
    )


def _first(row: Row, columns: tuple[str, ...]) -> str | None:
    return next((column for column in columns if _reach(row, column, missing_ok=True) is not None), None)


def _answer(row: Row, column: str) -> str:
    """Read an answer as text; one inside an object may be a list, an object or a truth value."""
    value = _reach(row, column)
    if column not in row.values and isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False)
    return as_text(value, column, row.where)


def _reach(row: Row, column: str, missing_ok: bool = False) -> Any:
    """Find the value of a column; `a.b` is `b` inside the object `a`, unless a column has that very name."""
    if column in row.values:
        value = row.values[column]
    else:
        value = row.values
        for key in column.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
    if value is None and not missing_ok:
        found = f"column {column!r} is null" if column in row.values else f"no column {column!r}"
        raise DataError(
            f"{row.where}: {found}; found {', '.join(row.values) or 'none'}; every row must have it, or "
            "name another with prompt_column or answer_column"
        )
    return value


plugin = Jsonl
