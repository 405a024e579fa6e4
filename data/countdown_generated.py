"""Countdown puzzles made on the spot, each with a solution: without end, and at a difficulty that is chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

from llmrl.data.countdown import TEMPLATE, puzzle
from llmrl.errors import DataError
from llmrl.types import Problem

HELD_OUT = 0.2  # of all puzzles there are; a constant, so that no two settings can disagree on who is held out
MAX_TRIES = 100_000  # in a row without a new puzzle, before the settings are taken to have no more


class Operation(NamedTuple):
    """One step of a solution: `left op right = value`, all whole numbers."""

    left: int
    op: str
    right: int
    value: int

    def __str__(self) -> str:
        return f"{self.left} {self.op} {self.right} = {self.value}"


class Line(NamedTuple):
    """A way to combine all the numbers."""

    operations: tuple[Operation, ...]
    expression: str  # the operations as one

    @property
    def value(self) -> int:
        return self.operations[-1].value


class Puzzle(NamedTuple):
    """Numbers, a target, and one way from these to that."""

    nums: tuple[int, ...]
    target: int
    solution: Line

    @property
    def key(self) -> str:
        """Equal for puzzles that differ in the order of the numbers alone."""
        return f"{','.join(map(str, sorted(self.nums)))}={self.target}"


@dataclass(frozen=True)
class CountdownGenerated:
    """Puzzles drawn by `seed`; no two are equal, and all can be solved.

    Each is made by combining its numbers at random, so a solution is known. Whether a puzzle is held out depends on its
    numbers and its target alone: train and heldout never share one, whatever their seeds and counts. Four numbers up to
    13 with target 24 never appear: they are the game of 24, which is a test.
    """

    split: Literal["train", "heldout"] = "train"
    count: int = 8000
    counts: tuple[int, ...] = (3, 4)  # how many numbers; each as likely
    low_target: int = 10
    high_target: int = 100  # numbers are 1 .. high_target - 1
    operators: str = "+-*/"
    seed: int = 0
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        if not self.operators or set(self.operators) - set("+-*/"):
            raise ValueError(f"operators {self.operators!r}: expected some of + - * /")
        if not self.counts or min(self.counts) < 2 or max(self.counts) > 6:
            raise ValueError(f"counts {self.counts}: expected numbers from 2 to 6")
        if not 2 <= self.low_target <= self.high_target or self.count < 1:
            raise ValueError("expected 2 <= low_target <= high_target, and count at least 1")

    def problems(self) -> Iterator[Problem]:
        """`count` problems; ids are `countdown/3,25,2=44`.

        Raises:
            DataError: the settings have fewer puzzles than that.
        """
        for found in self.puzzles():
            name = f"countdown/{','.join(map(str, found.nums))}={found.target}"
            yield puzzle(name, found.nums, found.target, found.solution.expression, self.template)

    def puzzles(self) -> Iterator[Puzzle]:
        """The same, each with its solution step by step."""
        random = Random(f"countdown/{self.seed}")
        seen: set[str] = set()
        while len(seen) < self.count:
            found = self._new(random, random.choice(self.counts), seen)
            if found is None:
                raise DataError(
                    f"countdown_generated: only {len(seen)} puzzles found, count is {self.count}; lower it, or widen "
                    "counts, operators or the range of targets"
                )
            seen.add(found.key)
            yield found

    def _new(self, random: Random, size: int, seen: Collection[str]) -> Puzzle | None:
        """One of so many numbers that was not seen; None where none turns up."""
        for _ in range(MAX_TRIES):
            nums = tuple(random.randint(1, self.high_target - 1) for _ in range(size))
            made = combine(nums, self.operators, random)
            if made is not None and self.low_target <= made.value <= self.high_target:
                found = Puzzle(nums, made.value, made)
                if found.key not in seen and self._wanted(found):
                    return found
        return None

    def _wanted(self, found: Puzzle) -> bool:
        game_of_24 = found.target == 24 and len(found.nums) == 4 and max(found.nums) <= 13
        return not game_of_24 and held_out(found.key) == (self.split == "heldout")


def combine(nums: Sequence[int], operators: str, random: Random) -> Line | None:
    """All the numbers combined two at a time in a random order; None where that leaves the whole numbers above 0."""
    values = [(number, str(number)) for number in nums]
    operations = []
    while len(values) > 1:
        (left, first), (right, second) = (values.pop(random.randrange(len(values))) for _ in range(2))
        op = random.choice(operators)
        value = apply(left, op, right)
        if value is None:
            return None
        operations.append(Operation(left, op, right, value))
        values.append((value, f"({first} {op} {second})"))
    return Line(tuple(operations), values[0][1][1:-1])


def apply(left: int, op: str, right: int) -> int | None:
    """The result where it is a whole number above 0, as people play the game; None elsewhere."""
    if op == "/":
        return left // right if left % right == 0 else None
    value = left + right if op == "+" else left * right if op == "*" else left - right
    return value if value > 0 else None


def held_out(key: str) -> bool:
    """Whether this puzzle belongs to the held-out share."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) < HELD_OUT * 2**64


plugin = CountdownGenerated
