"""JSON that is decoded piece by piece is what `json.loads` makes of it, or is refused as there."""

from __future__ import annotations

import json
import threading
import time

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


def test_another_thread_runs_in_between() -> None:
    """A list of 4 million numbers in 400 entries; `json.loads` lets nobody run until it has read them all."""
    data = json.dumps({"trajectories": [list(range(10_000))] * 400}).encode()
    longest = {}
    for loads in (piecewise_json.loads, json.loads):
        reading = threading.Thread(target=loads, args=(data,))
        reading.start()
        last = time.monotonic()
        gaps = []
        while reading.is_alive():
            time.sleep(0.001)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
        longest[loads] = max(gaps)
    assert longest[piecewise_json.loads] < 0.5 * longest[json.loads], longest
