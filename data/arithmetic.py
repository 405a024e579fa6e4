"""Sums made on the spot, as short as `12+34=`: what a model of a million parameters can learn in minutes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from llmrl.types import Problem

HELD_OUT = 0.2  # of all problems there are; a constant, so that no two settings can disagree on who is held out


@dataclass(frozen=True)
class Arithmetic:
    """Every problem `a op b` with both numbers in `low..high`, once each, in an order drawn by `seed`.

    Whether a problem is held out depends on nothing but the problem itself, and `3+5` goes with `5+3`: train and
    heldout never share a problem, whatever their seeds, counts and ranges.
    """

    operators: str = "+"  # any of + - *
    low: int = 0  # the smallest operand
    high: int = 99  # the largest
    count: int | None = None  # the first so many; None: all there are
    seed: int = 0  # of the order
    split: Literal["train", "heldout"] = "train"
    template: str = "{a}{op}{b}="

    def __post_init__(self) -> None:
        if not self.operators or set(self.operators) - set("+-*") or len(set(self.operators)) < len(self.operators):
            raise ValueError(f"operators {self.operators!r}: expected some of + - *, each once")
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count {self.count}: expected at least 1, or none for all there are")

    def problems(self) -> Iterator[Problem]:
        """At most `count` problems; ids are `arithmetic/12+34`."""
        return islice(self._all(), self.count)

    def _all(self) -> Iterator[Problem]:
        span = self.high - self.low + 1
        size = len(self.operators) * span * span
        for position in range(size):
            kind, pair = divmod(shuffled(position, size, self.seed), span * span)
            a, b = (self.low + number for number in divmod(pair, span))
            op = self.operators[kind]
            if held_out(a, op, b) == (self.split == "heldout"):
                yield self._problem(a, op, b)

    def _problem(self, a: int, op: str, b: int) -> Problem:
        value = a + b if op == "+" else a - b if op == "-" else a * b
        return Problem(
            id=f"arithmetic/{a}{op}{b}",
            messages=[{"role": "user", "content": self.template.format(a=a, op=op, b=b)}],
            answer=str(value),
            info={"operator": op, "digits": max(len(str(abs(a))), len(str(abs(b))))},
        )


def held_out(a: int, op: str, b: int) -> bool:
    """Whether this problem, and with it its mirror image, belongs to the held-out share."""
    return _hash(f"{min(a, b)}{op}{max(a, b)}") < HELD_OUT * 2**64


def shuffled(position: int, size: int, seed: int) -> int:
    """Where `position` goes in a permutation of `range(size)` drawn by `seed`, without ever holding the permutation.

    A Feistel network of four rounds over the next even power of two, walked until it lands inside the range
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = ((size - 1).bit_length() + 1) // 2 or 1
    mask = (1 << half) - 1
    while True:
        left, right = position >> half, position & mask
        for turn in range(4):
            left, right = right, left ^ (_hash(f"{seed}/{turn}/{right}") & mask)
        position = left << half | right
        if position < size:
            return position


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


plugin = Arithmetic
