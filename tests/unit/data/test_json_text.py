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
    with pytest.raises(DataError, match=r"^rows\.jsonl:3: "):
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
    path.write_bytes(gzip.compress(content, mtime=0) if ending.endswith("gz") else content)
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


ROW = '{"a": 1}'
PRETTY = '{\n  "a": 1\n}\n'


def read(path: Path, content: bytes) -> list[Any]:
    path.write_bytes(content)
    return [row.values for row in file_rows(path)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.jsonl", b"\xef\xbb\xbf" + ROW.encode()),
        ("bom.json", b"\xef\xbb\xbf[" + ROW.encode() + b"]"),
        ("joined.jsonl", b"\xef\xbb\xbf\n\xef\xbb\xbf" + ROW.encode() + b"\n"),
        ("crlf.jsonl", f"{ROW}\r\n\r\n".encode()),
        ("cr.jsonl", f"\r{ROW}\r".encode()),
        ("ROWS.JSONL", ROW.encode()),
        ("Rows.Json", f"[{ROW}]".encode()),
        ("packed.jsonl.gz", gzip.compress(ROW.encode(), mtime=0)),
        ("PACKED.JSONL.GZ", gzip.compress(ROW.encode(), mtime=0)),
        ("packed.jsonl", gzip.compress(ROW.encode(), mtime=0)),
        ("plain.jsonl.gz", ROW.encode()),
        ("several.json", f" \n[\n{ROW}\n]\n".encode()),
    ],
)
def test_files_as_programs_write_them(tmp_path: Path, name: str, content: bytes) -> None:
    assert read(tmp_path / name, content) == [{"a": 1}]


@pytest.mark.parametrize("name", ["rows.jsonl.zst", "rows.json.zst", "rows.jsonl"])
def test_zstandard(tmp_path: Path, name: str) -> None:
    import pyarrow

    rows = [{"a": i, "text": "é" * 1000} for i in range(2000)]
    text = json.dumps(rows) if ".json." in name else "".join(f"{json.dumps(row)}\n" for row in rows)
    packed = pyarrow.Codec("zstd").compress(text.encode(), asbytes=True)
    assert read(tmp_path / name, packed) == rows
    with pytest.raises(DataError, match=rf"{name}: not readable after row"):
        read(tmp_path / name, packed[:-20])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "empty.jsonl: holds no rows"),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0), "holds no rows"),
        ("blank.jsonl", b"\n \r\n\n", "holds no rows"),
        ("empty.json", b"[]", "holds no rows"),
        ("utf16.jsonl", ROW.encode("utf-16"), r"utf16.jsonl:1: UTF-16 text; expected UTF-8"),
        ("utf16be.jsonl", b"\xfe\xff" + ROW.encode("utf-16-be"), "UTF-16 text"),
        ("bare16.jsonl", f"{ROW}\n{ROW}\n".encode("utf-16-le"), r"bare16.jsonl:1: UTF-16 text"),
        ("twice.jsonl", f'{ROW}\n{{"a": 1, "b": {{"c": 1, "c": 2}}}}'.encode(), r"twice.jsonl:2: .* key 'c' twice"),
        ("twice.json", b'[{"a": 1, "a": 1}]', r"twice.json: .* key 'a' twice"),
        ("pretty.jsonl", (PRETTY * 2).encode(), r"pretty.jsonl:1: not JSON: .*ends before its value.*jq -c \. FILE"),
        ("pretty.json", PRETTY.encode(), r"pretty.json:1: not JSON: .*jq -c \. FILE"),
        ("numbers.jsonl", f"{ROW}\n1\n".encode(), "numbers.jsonl:2: expected a JSON object, found int"),
        ("null.jsonl", f"{ROW}\nnull\n".encode(), "null.jsonl:2: expected a JSON object, found NoneType"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, content)


def test_a_parquet_file_without_rows_is_named(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.array([], pyarrow.string())}), path)
    with pytest.raises(DataError, match=r"rows\.parquet: holds no rows"):
        list(file_rows(path))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a folder; expected \.jsonl"):
        list(file_rows(tmp_path))
