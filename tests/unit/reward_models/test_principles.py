from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llmrl.datafiles.rows import tiny
from llmrl.errors import DataError
from llmrl.ops.salmon import inclusion
from llmrl.reward_models.principles import Principle, draw, read, weights

NAMES = ("Honest", "Ethical", "Consistent reasoning", "Numerical care")
FOUR = [
    Principle(name=name, text=f"{name}.", opposite=f"Not {name}.", weight=w)
    for name, w in zip(NAMES, (3, 2, 1, 1), strict=True)
]


def test_those_that_ship_can_be_read() -> None:
    found = read(tiny("principles"))
    assert len(found) == 8
    assert {"Concise", "Polite"} <= {one.name for one in found}
    assert all(one.shown(True) != one.shown(False) for one in found)


def test_those_of_the_shared_data_can_be_read(shared_data: Path) -> None:
    assert len(read(shared_data / "principles" / "principles.jsonl")) == 16


GOOD = {"name": "a", "text": "b", "opposite": "c"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "holds no principles"),
        (["{"], ":1: not JSON"),
        (["[]"], ":1: found list"),
        ([json.dumps(GOOD), json.dumps({**GOOD, "name": "d", "opposite": " "})], ":2: opposite is ' '; expected text"),
        ([json.dumps(GOOD), json.dumps(GOOD)], ":2: a second principle called 'a'"),
        ([json.dumps({**GOOD, "weight": -1})], ":1: weight is -1"),
        ([json.dumps({**GOOD, "weight": float("nan")})], ":1: weight is nan"),
    ],
)
def test_what_is_refused(lines: list[str], words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=words):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no principles can be read"):
        read(tmp_path / "none.jsonl")


def test_a_draw_follows_the_weights_and_takes_none_twice() -> None:
    random, seen = Random(0), Counter[str]()
    for _ in range(4000):
        drawn = draw(FOUR, [one.weight for one in FOUR], 2, random)
        assert len({one.name for one in drawn}) == 2
        seen.update(one.name for one in drawn)
    for name, share in zip(NAMES, inclusion([3, 2, 1, 1], 2), strict=True):
        assert seen[name] / 4000 == pytest.approx(share, abs=0.03)


def test_the_same_seed_draws_the_same() -> None:
    drawn = [draw(FOUR, [1.0] * 4, 3, Random("0/p/g")) for _ in range(2)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("info", "lifted"),
    [
        ({}, set()),
        ({"reasoning": True}, set(NAMES[2:])),
        ({"red_teaming": True}, {"Ethical"}),
        ({"reasoning": False}, set()),
    ],
)
def test_a_kind_of_problem_lifts_what_it_is_about(info: dict[str, Any], lifted: set[str]) -> None:
    found = weights(FOUR, info)
    assert {one.name for one, weight in zip(FOUR, found, strict=True) if weight > 100} == lifted


def test_more_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="only 3 principles"):
        draw(FOUR, [1.0, 0.0, 1.0, 1.0], 4, Random(0))
