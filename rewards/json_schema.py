"""Validate an answer as JSON of a given schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

from llmrl.answers.delimited import fenced, tagged
from llmrl.answers.thoughts import after_thoughts
from llmrl.types import Problem, Score

COLUMN = "schema"


@dataclass(frozen=True)
class JsonSchema:
    """1.0 if the answer is JSON that its schema allows, else 0.0; without a schema, if it is JSON.

    The schema is the option or, where that is null, `schema` in `problem.info`, an object or its text (json-schema.org,
    the draft that it names, else 2020-12), checked by the package jsonschema. References lead only inside the schema:
    nothing is fetched. The answer is in the last answer tags, there in the last fenced block, else the whole text after
    the thoughts. Numbers such as NaN and `1e999`, and a key twice, are not JSON. An answer of the right form may be
    false: join it with another reward, and put that one first where its verdict should count.

    Raises:
        ValueError: the schema is not valid; as an option, when the reward is built.
    """

    schema: Mapping[str, Any] | None = None  # null: that of the problem
    formats: bool = False  # whether `format` (email, date ...) is checked, too

    def __post_init__(self) -> None:
        if self.schema is not None:
            _validator(json.dumps(self.schema, sort_keys=True), self.formats)

    def warm_up(self) -> None:
        """Import the package that a first call needs."""
        _validator("true", self.formats)

    def __call__(self, problem: Problem, text: str) -> Score:
        validator = _validator(self._schema(problem), self.formats)
        answer = after_thoughts(text)
        for inside in (tagged, fenced):
            found = inside(answer)
            answer = answer if found is None else found
        answer = answer.strip()
        try:
            value = loads(answer)
        except ValueError as error:
            return Score(0.0, "unparsable", reason=f"{answer[:80]!r} is not JSON: {error}")
        errors = _errors(validator, value)
        if not errors:
            return Score(1.0, "correct", answer=answer)
        place = "/".join(map(str, errors[0].absolute_path)) or "the whole"
        reason = f"{place}: {errors[0].message[:200]}; {len(errors)} errors"
        return Score(0.0, "wrong", reason=reason, answer=answer)

    def _schema(self, problem: Problem) -> str:
        schema = self.schema if self.schema is not None else problem.info.get(COLUMN, True)
        return schema if isinstance(schema, str) else json.dumps(schema, sort_keys=True)


def _errors(validator: Any, value: Any) -> list[Any]:
    from referencing.exceptions import Unresolvable

    try:
        return sorted(validator.iter_errors(value), key=lambda error: (len(error.absolute_path), error.message))
    except Unresolvable as error:
        raise ValueError(f"a reference of the schema leads outside it or nowhere: {error}") from None


def loads(text: str) -> Any:
    """Parse a JSON text strictly.

    Raises:
        ValueError: it is not JSON, names a key twice or a number that JSON has not, or is too deep.
    """
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("too many brackets inside each other") from None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(number: str) -> float:
    if not isfinite(value := float(number)):
        raise ValueError(f"{number[:40]} is larger than any number that a reader of JSON keeps")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


@lru_cache(maxsize=1024)
def _validator(schema: str, formats: bool) -> Any:
    import jsonschema
    from referencing import Registry

    try:
        read = loads(schema)
        kind = jsonschema.validators.validator_for(read, default=jsonschema.Draft202012Validator)
        kind.check_schema(read)
    except (ValueError, TypeError, jsonschema.SchemaError) as error:
        first = str(error).splitlines()[0][:200]
        raise ValueError(f"the schema {schema[:80]!r} is none: {first}; expected a JSON schema") from None
    return kind(read, registry=Registry(), format_checker=kind.FORMAT_CHECKER if formats else None)


plugin = JsonSchema
