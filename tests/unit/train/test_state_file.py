"""The state of a run with arrays in it, on disk."""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file

from llmrl.train import state_file

STATE: dict[str, Any] = {
    "step": 3,
    "nothing": None,
    "arrays": [array("i", [-1, 2**31 - 1]), array("f", [-0.1, math.inf]), array("d", [0.1]), array("i")],
    "deep": {"ids": array("i", [7]), "text": "é", "number": 0.1},
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    state_file.write(tmp_path, STATE)
    assert state_file.read(tmp_path) == STATE
    assert [column.typecode for column in state_file.read(tmp_path)["arrays"]] == ["i", "f", "d", "i"]
    state_file.write(tmp_path, {"step": 4})
    assert state_file.read(tmp_path) == {"step": 4}, "nothing is left of the state before it"


def test_columns_are_binary_and_stand_once(tmp_path: Path) -> None:
    ids = array("i", range(10_000))
    state_file.write(tmp_path, {"mine": ids, "yours": ids, "last": array("i", [3])})
    found = state_file.read(tmp_path)
    assert found["mine"] is found["yours"]
    assert {name: len(column) for name, column in load_file(tmp_path / state_file.ARRAYS).items()} == {"i": 10_001}
    assert (tmp_path / state_file.JSON).stat().st_size < 200


@pytest.mark.parametrize("name", [state_file.JSON, state_file.ARRAYS])
def test_a_missing_or_damaged_file_is_an_error(tmp_path: Path, name: str) -> None:
    state_file.write(tmp_path, STATE)
    whole = (tmp_path / name).read_bytes()
    for size in (0, 10, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises((ValueError, SafetensorError)):
            state_file.read(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(OSError, match=name):
        state_file.read(tmp_path)


def test_files_of_two_checkpoints_do_not_fit(tmp_path: Path) -> None:
    state_file.write(tmp_path, {"ids": array("i", range(10))})
    text = (tmp_path / state_file.JSON).read_text()
    for other in ({"ids": array("i", range(9))}, {"ids": array("f", range(10))}):
        state_file.write(tmp_path, other)
        (tmp_path / state_file.JSON).write_text(text)
        with pytest.raises((ValueError, KeyError)):
            state_file.read(tmp_path)


def test_other_objects_are_no_state(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="set in the state of a run"):
        state_file.write(tmp_path, {"names": {"a"}})
