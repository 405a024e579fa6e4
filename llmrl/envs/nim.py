"""Nim in text: two players take objects from heaps, and who takes the last wins. Solved exactly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations_with_replacement
from operator import xor
from string import ascii_lowercase
from typing import Any, ClassVar

from llmrl.games.duel import DuelGame
from llmrl.games.game import Move

Heaps = tuple[int, ...]
ACTION = re.compile(r"([a-z]) ?([1-9])", re.ASCII)


@dataclass(frozen=True)
class Nim(DuelGame[Heaps]):
    """Nim; a start is the sizes of the heaps, such as `1,3,4`, and is won for the player to move with best play.

    A state is shown as `a1 b3 c4`; the move `b2` takes two objects from heap b. A player to move wins exactly where the
    sizes do not cancel under exclusive or (Bouton 1901).
    """

    heaps: int = 3
    largest: int = 4  # objects of a heap at the start

    rules: ClassVar[str] = (
        "You play Nim. Heaps are letters with the number of objects left in them. In your turn take at least one "
        "object from a single heap: b2 takes two from heap b. Who takes the last object of all wins. Answer with "
        "nothing but your move."
    )

    def __post_init__(self) -> None:
        if not 1 <= self.heaps <= 6 or not 1 <= self.largest <= 9:
            raise ValueError(f"heaps {self.heaps}, largest {self.largest}: expected 1 to 6, and 1 to 9")

    def starts(self) -> Sequence[str]:
        """Sizes of the heaps, in order, that are won for the player to move."""
        sizes = combinations_with_replacement(range(1, self.largest + 1), self.heaps)
        return [",".join(map(str, heaps)) for heaps in sizes if self.wins(heaps)]

    def deal(self, start: str) -> Heaps:
        if start not in self.starts():
            known = self.starts()
            raise ValueError(f"expected one of {len(known)} lists of heaps, such as {known[-1] if known else 'none'}")
        return tuple(map(int, start.split(",")))

    def facts(self, state: Heaps) -> Mapping[str, Any]:
        """Sizes of the heaps, by letter, and if the player to move wins."""
        return {**dict(zip(ascii_lowercase, state, strict=False)), "winning": self.wins(state)}

    def shown(self, state: Heaps) -> str:
        return " ".join(f"{name}{size}" for name, size in zip(ascii_lowercase, state, strict=False))

    def ply(self, state: Heaps, action: str) -> Move[Heaps]:
        match = ACTION.fullmatch(action)
        heap, taken = (ascii_lowercase.index(match[1]), int(match[2])) if match else (len(state), 0)
        if heap >= len(state) or taken > state[heap]:
            return Move(state, "That is no move. You have lost.\n", -1.0, "lost", legal=False)
        after = (*state[:heap], state[heap] - taken, *state[heap + 1 :])
        if not any(after):
            return Move(after, "You have won.\n", 1.0, "won")
        return Move(after, self.shown(after), 0.0)

    def wins(self, state: Heaps) -> bool:
        return reduce(xor, state) != 0

    def actions(self, state: Heaps) -> Sequence[str]:
        """The legal moves."""
        pairs = zip(ascii_lowercase, state, strict=False)
        return [f"{name}{taken}" for name, size in pairs for taken in range(1, size + 1)]

    def best(self, state: Heaps) -> str:
        """A move that makes the sizes cancel; where there is none, one object of the largest heap: that delays."""
        kept = [action for action in self.actions(state) if not self.wins(self.ply(state, action).state)]
        return kept[0] if kept else f"{ascii_lowercase[state.index(max(state))]}1"


plugin = Nim
