"""JSON that is decoded piece by piece is what `json.loads` makes of it, or is refused as there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmrl.scoring import piecewise_json

GOOD = [
    b"{}",
    b' { "a" : [ ] , "b":[1,2.5 , "x\\n\\u00e9", {"c": [null, true]}]\n, "a": [[1], [2]] } ',
    b'{"a": {"texts": [1, 2]}, "texts": ["a", "b"], "n": -1e3}',
    b"[1, 2]",
    b"null",
    '"é"'.encode(),
    "﻿{}".encode(),
    '{"a": ["é"]}'.encode("utf-16"),
]
BAD = [
    b"",
    b"{",
    b'{"a"',
    b'{"a":',
    b'{"a": [',
    b'{"a": [1',
    b'{"a": [1,',
    b'{"a": [1,]}',
    b'{"a": [,1]}',
    b'{"a": [1 2]}',
    b'{"a": [1]',
    b'{"a": [1]]',
    b'{"a": [1],}',
    b'{"a": 1 "b": 2}',
    b"{a: 1}",
    b'{"a": 1} {}',
    b'{"a": [NaN]}',
    b'{"a": Infinity}',
    b'{"a": ["\xff"]}',
    b'{"a": ["\n"]}',
]


@pytest.mark.parametrize("data", GOOD)
def test_good_json_is_read_as_json_reads_it(data: bytes) -> None:
    assert piecewise_json.loads(data) == json.loads(data)


@pytest.mark.parametrize("data", BAD)
def test_bad_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        piecewise_json.loads(data)
    if b"NaN" not in data and b"Infinity" not in data:
        with pytest.raises(ValueError, match=r"."):
            json.loads(data)


def test_no_call_of_the_decoder_reads_more_than_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two calls other threads run; `json.loads` reads all of it in one."""
    read: list[int] = []
    raw_decode = json.JSONDecoder.raw_decode

    def measured(decoder: json.JSONDecoder, text: str, at: int = 0) -> tuple[Any, int]:
        value, end = raw_decode(decoder, text, at)
        read.append(end - at)
        return value, end

    monkeypatch.setattr(json.JSONDecoder, "raw_decode", measured)
    entry = list(range(1000))
    data = {"texts": ["a"], "trajectories": [entry] * 40, "n": 5}
    assert piecewise_json.loads(json.dumps(data).encode()) == data
    assert max(read) == len(json.dumps(entry))
    assert len(read) == 3 + 1 + 40 + 1, "three keys, an entry, forty entries, a number"
