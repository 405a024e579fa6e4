"""Problems of programming contests as LiveCodeBench has them (Jain et al. 2024, arXiv 2403.07974)."""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from llmrl.datafiles.rows import Origin, Row, ask, known_rows, problems
from llmrl.errors import DataError
from llmrl.types import Problem

PROGRAM = "Read from standard input and write to standard output. Answer with the whole program in one block of Python."
METHOD = "Complete this class. Answer with the whole program, its imports included, in one block of Python."
UNPACKING: tuple[type[Exception], ...] = (
    *(binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, ValueError, ArithmeticError, LookupError),
    *(TypeError, AttributeError, MemoryError, ImportError),
)
"""Errors of a pickle that was cut off, or made to do harm."""
LARGEST = 1 << 28  # bytes of the hidden tests of one problem
CALL = "found = {call}\nassert (list(found) if isinstance(found, tuple) else found) == {wanted}"


@dataclass(frozen=True)
class LiveCodeBench:
    """Rows of `code_generation_lite`; the reward `code` reads `input_output`, or `tests` and `entry_point`.

    Tests are those that the row shows and those that it hides, which are packed. A problem with starter code is a
    method of the class `Solution`; all others are programs. There is no reference: `answer` is empty.
    """

    path: str | None = None  # a file of rows, such as test6.jsonl
    split: Literal["test"] = "test"
    since: str | date = ""  # contests of this day or later, as 2024-08-01
    until: str | date = ""  # and before this one

    def __post_init__(self) -> None:
        for name in ("since", "until"):  # YAML reads a day as a date
            day = str(getattr(self, name))[:10]
            try:
                object.__setattr__(self, name, day and date.fromisoformat(day).isoformat())
            except ValueError:
                raise ValueError(f"{name} {day!r}: expected a day such as 2024-08-01") from None

    def problems(self) -> Iterator[Problem]:
        """Problems in the order of the file.

        Raises:
            DataError: the file is not found, or a row has other columns or tests that cannot be read.
        """
        origin = Origin(
            file="livecodebench/test.jsonl",
            hub="livecodebench/code_generation_lite",
            split=self.split,
            path=self.path,
        )
        return problems(filter(self._is_of_the_time, known_rows(origin)), self._problem)

    def _is_of_the_time(self, row: Row) -> bool:
        day = row.text("contest_date")[:10]
        return str(self.since) <= day and (not self.until or day < str(self.until))

    def _problem(self, row: Row) -> Problem:
        tests = [*_shown(row), *_hidden(row)]
        kinds = {str(test.get("testtype")) for test in tests}
        starter = str(row.values.get("starter_code") or "")
        if kinds == {"stdin"}:
            pairs = {"inputs": [test["input"] for test in tests], "outputs": [test["output"] for test in tests]}
            columns: dict[str, Any] = {"input_output": json.dumps(pairs)}
        elif kinds == {"functional"}:
            columns = {"tests": [_call(row, test) for test in tests], "entry_point": "Solution"}
        else:
            raise DataError(f"{row.where}: expected tests of testtype stdin, or all functional; found {sorted(kinds)}")
        content = row.text("question_content")
        asked = f"{content}\n\n{METHOD}\n```python\n{starter}\n```" if starter else f"{content}\n\n{PROGRAM}"
        kept = ("question_title", "platform", "contest_id", "contest_date", "difficulty", "starter_code")
        return Problem(
            id=row.text("question_id"),
            messages=ask(asked, ""),
            answer="",
            info={**{name: row.values.get(name) for name in kept}, **columns},
        )


def _shown(row: Row) -> list[Mapping[str, Any]]:
    return _tests(row.values.get("public_test_cases") or "[]", f"{row.where}: public_test_cases")


def _hidden(row: Row) -> list[Mapping[str, Any]]:
    """Read tests that are JSON, or JSON in a pickle, compressed, in letters.

    Of the pickle only its text is taken: it may name no class and no function, so that reading it runs nothing.
    """
    packed = row.values.get("private_test_cases") or "[]"
    where = f"{row.where}: private_test_cases"
    if not isinstance(packed, str) or packed.lstrip().startswith("["):
        return _tests(packed, where)
    try:
        unpacked = zlib.decompressobj().decompress(base64.b64decode(packed, validate=True), LARGEST)
        return _tests(_TextOnly(io.BytesIO(unpacked)).load(), where)
    except UNPACKING as error:
        raise DataError(f"{where}: cannot be unpacked: {error}; expected JSON, or its compressed form") from error


class _TextOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"names {module}.{name}; expected text alone")


def _tests(packed: Any, where: str) -> list[Mapping[str, Any]]:
    try:
        tests = json.loads(packed) if isinstance(packed, str | bytes) else packed
    except ValueError as error:
        raise DataError(f"{where}: no JSON: {error}") from None
    texts = ("input", "output")
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise DataError(f"{where}: expected a list of objects; found {type(tests).__name__}")
    if not all(isinstance(test.get(name), str) for test in tests for name in texts):
        raise DataError(f"{where}: expected input and output of each test, both text")
    return tests


def _call(row: Row, test: Mapping[str, Any]) -> str:
    """A statement that calls the method with the arguments, one JSON value a line, and compares the result."""
    try:
        name = json.loads(str(row.values.get("metadata") or "{}"))["func_name"]
        arguments = [json.loads(line) for line in test["input"].split("\n") if line.strip()]
        wanted = json.loads(test["output"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{row.where}: expected metadata with func_name, and input and output as JSON: {error!r}"
        ) from None
    if not str(name).isidentifier():
        raise DataError(f"{row.where}: func_name {name!r}: expected a name of Python")
    return CALL.format(call=f"Solution().{name}({', '.join(map(repr, arguments))})", wanted=repr(wanted))


plugin = LiveCodeBench
