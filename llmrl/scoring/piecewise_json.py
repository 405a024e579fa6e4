"""JSON objects decoded piece by piece, so that other threads run in between."""

from __future__ import annotations

import json
import re
from typing import Any

_BLANK = re.compile(r"[ \t\n\r]*")


def loads(data: bytes) -> Any:
    """`json.loads`, in which a list that is a value of the outermost object is decoded an entry at a time.

    The decoder holds the interpreter for the whole of a call, seconds for a large request; so no thread could answer
    anything else meanwhile. Numbers that JSON has not (`NaN`, `Infinity`) are refused.

    Raises:
        ValueError: it is no JSON; names the place.
        RecursionError: it is nested too deep.
    """
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    text = data.decode(json.detect_encoding(data), "surrogatepass")
    at = _skip(text, 0)
    if not text.startswith("{", at):
        return decoder.decode(text)
    body: dict[str, Any] = {}
    at = _skip(text, at + 1)
    if not text.startswith("}", at):
        while True:
            if not text.startswith('"', at):
                raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
            key, at = decoder.raw_decode(text, at)
            at = _after(":", text, at)
            body[key], at = _entries(decoder, text, at) if text.startswith("[", at) else decoder.raw_decode(text, at)
            at = _skip(text, at)
            if not text.startswith(",", at):
                break
            at = _skip(text, at + 1)
    at = _after("}", text, at)
    if at < len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return body


def _entries(decoder: json.JSONDecoder, text: str, at: int) -> tuple[list[Any], int]:
    """The list that begins at `at`, and where it ends."""
    entries: list[Any] = []
    at = _skip(text, at + 1)
    if text.startswith("]", at):
        return entries, at + 1
    while True:
        entry, at = decoder.raw_decode(text, at)
        entries.append(entry)
        at = _skip(text, at)
        if not text.startswith(",", at):
            return entries, _after("]", text, at)
        at = _skip(text, at + 1)


def _after(sign: str, text: str, at: int) -> int:
    """The place of what follows the sign, which must come next."""
    at = _skip(text, at)
    if not text.startswith(sign, at):
        raise json.JSONDecodeError(f"Expecting {sign!r} delimiter", text, at)
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
