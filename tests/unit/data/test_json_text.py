"""JSON that may be anything: each fault is one message with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from llmrl.datafiles import json_text
from llmrl.datafiles.rows import file_rows
from llmrl.errors import DataError

FAULTS = {
    "broken": (b'{"a": 1, "b"', "not JSON: Expecting ':' delimiter at column 13; found '{\"a\": 1, \"b\"'"),
    "nul": (b"\0" * 40, "not JSON: 40 NUL bytes, which a disk may leave behind after a loss of power"),
    "latin": (b'{"a": "\xff"}', "not UTF-8 text: byte 0xff at column 8"),
    "deep": (b'{"a": ' + b"[" * 100_000, "lists and objects are nested deeper than 100 levels"),
    "deep and whole": (b"[" * 100_000 + b"]" * 100_000, "lists and objects are nested deeper than 100 levels"),
    "below Python's limit": (b"[" * 102 + b"]" * 102, "lists and objects are nested deeper than 100 levels"),
    "digits": (b'{"a": ' + b"7" * 10_000 + b"}", "Exceeds the limit (4300 digits) for integer string conversion"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    content, message = FAULTS[name]
    with pytest.raises(DataError) as refused:
        json_text.parse(content, "rows.jsonl:3")
    assert str(refused.value).startswith(f"rows.jsonl:3: {message}")
    with pytest.raises(DataError):
        json_text.parse(content.decode("utf-8", "surrogateescape"), "rows.jsonl:3")


@pytest.mark.parametrize(
    "text", ["7", '"[[{{"', "[" * 101 + "]" * 101, json.dumps([[{}]] * 1000), '"\\ud83d\\ude00"', '"é"']
)
def test_the_rest_is_read(text: str) -> None:
    value = json_text.parse(text.encode(), "x")
    assert value == json.loads(text)
    json_text.require_characters(value, text, "x")


def test_half_a_character() -> None:
    text = '{"a": ["\\uD800b"]}'
    with pytest.raises(DataError, match=r"rows.jsonl:3: holds half a character, the lone surrogate \\ud800"):
        json_text.require_characters(json_text.parse(text, "x"), text, "rows.jsonl:3")


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("ending", ["jsonl", "json", "jsonl.gz"])
def test_rows_of_files(name: str, ending: str, tmp_path: Path) -> None:
    path, content = tmp_path / f"rows.{ending}", b'{"a": 1}\n' + FAULTS[name][0] + b"\n"
    if ending == "json":
        content = b'[{"a": 1},\n' + FAULTS[name][0] + b"]"
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    place = f"{path}" if ending == "json" else f"{path}:2: {FAULTS[name][1]}"
    with pytest.raises(DataError) as refused:
        list(file_rows(path))
    assert str(refused.value).startswith(place)


def test_parquet(tmp_path: Path) -> None:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    path = tmp_path / "rows.parquet"
    deep: Any = [7]
    for _ in range(101):
        deep = [deep]
    pyarrow.parquet.write_table(pyarrow.table({"a": [deep]}), path)
    with pytest.raises(DataError, match=r"rows.parquet(: row 0: lists and objects are nested deeper|: not a parquet)"):
        list(file_rows(path))
    latin = pyarrow.StringArray.from_buffers(
        1, pyarrow.array([0, 2], pyarrow.int32()).buffers()[1], pyarrow.py_buffer(b"\xff\xfe")
    )
    pyarrow.parquet.write_table(pyarrow.table({"a": latin}), path)
    with pytest.raises(DataError, match=r"rows.parquet: a row after row 0 holds text that is not UTF-8"):
        list(file_rows(path))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"rows.parquet: not a parquet file that can be read"):
        list(file_rows(path))
