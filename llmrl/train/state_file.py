"""The state of a run on disk: JSON, and the arrays in it in one binary file beside it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from llmrl.types import Ragged

JSON, ARRAYS = "run.json", "run.safetensors"
PLACE = "llmrl.array"
"""Key of the mapping that stands in the JSON for an array: its type code, and where it begins and ends in the file."""


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a tree of JSON's values and `array`s; a `Ragged` is read back as a mapping of its two arrays.

    Arrays of one type stand one behind the other in one tensor, and an array that occurs twice stands there once: a
    step of many short turns costs no more than one of few long ones.

    Raises:
        OSError, SafetensorError: no room, or not writable.
    """
    columns: dict[str, list[array[Any]]] = {}
    ends: dict[str, int] = {}
    places: dict[int, list[Any]] = {}  # by identity

    def place(value: Any) -> Mapping[str, Any]:
        if isinstance(value, Ragged):
            return {"ids": value.ids, "ends": value.ends}
        if not isinstance(value, array):
            raise TypeError(f"{type(value).__name__} in the state of a run; expected values of JSON, or arrays")
        if id(value) not in places:
            begin = ends.get(value.typecode, 0)
            ends[value.typecode] = begin + len(value)
            columns.setdefault(value.typecode, []).append(value)
            places[id(value)] = [value.typecode, begin, begin + len(value)]
        return {PLACE: places[id(value)]}

    text = json.dumps(state, default=place)
    save_file({code: np.concatenate(arrays) for code, arrays in columns.items()}, folder / ARRAYS)
    (folder / JSON).write_text(text, encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """The tree that was written.

    Raises:
        OSError, ValueError, SafetensorError: a file is missing or damaged.
    """
    path = folder / ARRAYS
    tensors = load_file(path) if path.exists() else {}  # older versions wrote none, and are refused by their version
    made: dict[tuple[str, int, int], array[Any]] = {}

    def find(mapping: dict[str, Any]) -> Any:
        if mapping.keys() != {PLACE}:
            return mapping
        code, begin, end = mapping[PLACE]
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file")
        if (code, begin, end) not in made:
            numbers = tensors[code][begin:end]
            if len(numbers) != end - begin:
                raise ValueError(f"{ARRAYS} ends before number {end}")
            made[code, begin, end] = array(code, numbers.tobytes())
        return made[code, begin, end]

    state: dict[str, Any] = json.loads((folder / JSON).read_text(encoding="utf-8"), object_hook=find)
    return state
