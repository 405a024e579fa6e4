"""JSON that may be anything: an error says where it stands and what was found, and nothing deep or endless gets in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llmrl.errors import DataError

DEPTH = 100
"""Levels of lists and objects: what is deeper cannot be copied, written or compared safely."""
BOM, UTF_16 = "\ufeff", ("\udcff\udcfe", "\udcfe\udcff")
"""The byte order marks of UTF-8, and of UTF-16 as `surrogateescape` decodes it."""
SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")


def parse(text: str | bytes, where: str, *, unique_keys: bool = False) -> Any:
    """The value of a JSON text. A byte order mark before it is passed over.

    Args:
        text: UTF-8, or decoded with `surrogateescape`.
        where: file and line, with which the message of an error starts.
        unique_keys: refuse an object with two values for a key, of which JSON readers take one or the other.
    Raises:
        DataError: no UTF-8, NUL bytes, no JSON, nested deeper than `DEPTH`, or a number of thousands of digits.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    text = text.removeprefix(BOM)
    _require_utf8(text, where)
    try:
        value = json.loads(text, object_pairs_hook=_unique if unique_keys else None)
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if "\n" in text.strip() else ""
        more = "" if error.pos < len(text.rstrip()) else "; the text ends before its value does"
        raise DataError(
            f"{where}{line}: not JSON: {error.msg} at column {error.colno}; found {text.strip()[:60]!r}{more}"
        ) from None
    except RecursionError:
        raise DataError(_too_deep(where)) from None
    except ValueError as error:  # Python refuses to read integers of more than 4,300 digits
        raise DataError(f"{where}: {str(error).partition(';')[0]}") from None
    if text.count("[") + text.count("{") > DEPTH:
        require_shallow(value, where)
    return value


def _require_utf8(text: str, where: str) -> None:
    """Refuse bytes of another encoding, which `surrogateescape` has kept."""
    zeros = text.count("\0")
    if text.startswith(UTF_16) or (0 < zeros < len(text) and abs(len(text) - 2 * zeros) <= 2):
        raise DataError(f"{where}: UTF-16 text; expected UTF-8, such as `iconv -f UTF-16 -t UTF-8 FILE` writes")
    if wrong := SURROGATE.search(text):
        byte = ord(wrong[0]) - 0xDC00
        raise DataError(f"{where}: not UTF-8 text: byte 0x{byte & 0xFF:02x} at column {wrong.start() + 1}")
    if zeros:
        raise DataError(f"{where}: not JSON: {zeros} NUL bytes, which a disk may leave behind after a loss of power")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
        raise ValueError(f"an object has the key {twice!r} twice, and only one of the values could be read")
    return made


def require_shallow(value: Any, where: str) -> None:
    """Refuse lists and mappings that are nested deeper than `DEPTH`.

    Raises:
        DataError: they are.
    """
    level = [value]
    for _ in range(DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise DataError(_too_deep(where))


def require_characters(value: Any, text: str, where: str) -> None:
    """Refuse halves of characters, which JSON can spell but no tokenizer and no file takes.

    Args:
        value: what `text` was parsed to.
    Raises:
        DataError: there is one.
    """
    if not _ESCAPED.search(text):
        return
    if half := SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise DataError(f"{where}: holds half a character, the lone surrogate \\u{ord(half[0]):04x}")


def _inside(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [each for each in inner if isinstance(each, Mapping | list | tuple)]


def _too_deep(where: str) -> str:
    return f"{where}: lists and objects are nested deeper than {DEPTH} levels"
