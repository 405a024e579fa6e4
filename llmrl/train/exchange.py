"""Values of a rank as bytes for the others, and back; arrays travel in one block beside the rest."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Sequence
from io import BytesIO
from itertools import accumulate
from typing import Any

Packed = tuple[bytes, Sequence[int], bytes]
"""The pickled rest, the sizes of the arrays in bytes, and the arrays one behind the other."""


def pack(items: Any) -> Packed:
    """Take values apart. Without a block of their own, arrays would be unpickled through a copy each.

    Such copies live until all is read, between the arrays, and the gaps they leave are memory that nobody can use:
    half as much again as the arrays of a step with many short turns.
    """
    buffers: list[pickle.PickleBuffer] = []
    rest = BytesIO()
    _Pickler(rest, protocol=5, buffer_callback=buffers.append).dump(items)
    raw = [buffer.raw() for buffer in buffers]
    return rest.getvalue(), [part.nbytes for part in raw], b"".join(raw)


def unpack(packed: Packed) -> Any:
    """The values again. Arrays of NumPy are views of the block, and cannot be written to."""
    rest, sizes, block = packed
    view, ends = memoryview(block), list(accumulate(sizes))
    return pickle.loads(rest, buffers=[view[end - size : end] for size, end in zip(sizes, ends, strict=True)])


class _Pickler(pickle.Pickler):
    """Sends the standard library's arrays out of band, as NumPy does with its own."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is array:
            return _array, (value.typecode, pickle.PickleBuffer(value))
        return NotImplemented


def _array(code: str, entries: bytes) -> array[Any]:
    made: array[Any] = array(code)
    made.frombytes(entries)
    return made[:]  # of its exact size: `frombytes` leaves room to grow
