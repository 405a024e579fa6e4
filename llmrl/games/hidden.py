"""Games in which an item is to be found by questions: their rules, a player that splits, and an exact solver."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2
from typing import ClassVar

from llmrl.games.game import Ending, Move, TextGame


@dataclass(frozen=True, slots=True)
class Search:
    """State: the hidden item, the items that no answer has excluded, and the number of turns taken."""

    item: str
    remaining: tuple[str, ...]
    turns: int = 0


@dataclass(frozen=True)
class GuessingGame(TextGame[Search]):
    """A game that hides an item: -1 for each turn, 0 for the turn that names it; `limit` turns are the task itself.

    A start is the name of an item.
    """

    header: ClassVar[str]  # the first line
    limit: ClassVar[int]
    rejected: ClassVar[str]  # the reply to a text that is no question of the game

    @abstractmethod
    def questions(self) -> Sequence[str]:
        """Questions of the scripted players, those that name an item among them."""

    @abstractmethod
    def read(self, action: str) -> str | None:
        """The question as the answers read it; None where the text is none of the game."""

    @abstractmethod
    def names(self, question: str, item: str) -> bool:
        """True if the question finds the item."""

    @abstractmethod
    def answer(self, question: str, item: str) -> str:
        """The reply to a question where that item is hidden."""

    def begin(self, start: str) -> Search:
        items = tuple(self.starts())
        if start not in items:
            raise ValueError(f"expected one of {len(items)} items such as {items[0]}")
        return Search(start, items)

    def shown(self, state: Search) -> str:
        return self.header

    def play(self, state: Search, action: str) -> Move[Search]:
        question = self.read(action)
        after = replace(state, turns=state.turns + 1)
        end: Ending | None = "lost" if after.turns >= self.limit else None
        if question is None:
            return Move(after, self.rejected, -1.0, end, legal=False)
        reply = self.answer(question, state.item)
        if self.names(question, state.item):
            return Move(replace(after, remaining=(state.item,)), reply, 0.0, "won")
        left = tuple(item for item in state.remaining if self.fits(question, item, reply))
        return Move(replace(after, remaining=left), reply, -1.0, end)

    def fits(self, question: str, item: str, reply: str) -> bool:
        """True if the item may be hidden behind this reply to a question that did not find it."""
        return not self.names(question, item) and self.answer(question, item) == reply

    def actions(self, state: Search) -> Sequence[str]:
        """The scripted questions."""
        return self.questions()

    def best(self, state: Search) -> str:
        """The question that splits the remaining items best."""
        return best_question(self, state.remaining)


@lru_cache(maxsize=16384)
def best_question(game: GuessingGame, remaining: tuple[str, ...]) -> str:
    """The question with the least sum of n log2 n over the sizes n of its parts, less 1 where it may name the item.

    It knows nothing but the answers so far; of equal questions the first is taken. Splitting is near the optimum, not
    always at it: `optimal_total` tells.
    """

    def cost(question: str) -> float:
        named = [item for item in remaining if game.names(question, item)]
        parts = Counter(game.answer(question, item) for item in remaining if item not in named)
        return sum(size * log2(size) for size in parts.values()) - len(named)

    return min(game.questions(), key=cost)


@lru_cache(maxsize=1 << 16)
def optimal_total(game: GuessingGame, items: frozenset[str]) -> float:
    """The greatest sum of returns over the items, each hidden once, with the scripted questions and no limit of turns.

    Exact, by recursion over sets of items that answers leave; its cost grows exponentially, so for a dozen items.
    """
    if not items:
        return 0.0
    best = float("-inf")
    for question in game.questions():
        named = {item for item in items if game.names(question, item)}
        parts: dict[str, set[str]] = {}
        for item in items - named:
            parts.setdefault(game.answer(question, item), set()).add(item)
        if any(len(part) == len(items) for part in parts.values()):
            continue  # it tells nothing
        left = sum(optimal_total(game, frozenset(part)) for part in parts.values())
        best = max(best, left - (len(items) - len(named)))
    return best
