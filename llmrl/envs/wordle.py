"""Wordle in text: a hidden word of five letters, six tries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

from llmrl.games.hidden import GuessingGame
from llmrl.games.words import WORDS

Rule = Literal["lmrl", "standard"]


@dataclass(frozen=True)
class Wordle(GuessingGame):
    """Guess a word; a start is the hidden word.

    Letters are spaced in guesses and replies: `c r a n e`, `g b y b b`. A guess without blanks is read, too. A text
    that is no word of the list costs a try and is answered by an empty line. With the rule `lmrl` a letter that occurs
    anywhere in the hidden word is `y` wherever it is guessed; with `standard` only as often as it occurs. The
    list is our own; format and rewards are those of LMRL-Gym (arXiv 2311.18232).
    """

    rule: Rule = "lmrl"
    vocabulary: int | None = None  # the first so many words of the list; None: all

    header: ClassVar[str] = "Wordle:\n"
    limit: ClassVar[int] = 6
    rejected: ClassVar[str] = "\n"
    rules: ClassVar[str] = (
        "Guess a hidden word of five letters in six tries. Each guess is answered letter by letter: g is right, y is "
        "in the word but elsewhere, b is not in the word. An empty answer means that the guess was no known word. "
        "Answer with nothing but a guess, its letters separated by blanks: c r a n e"
    )

    def __post_init__(self) -> None:
        if self.vocabulary is not None and not 2 <= self.vocabulary <= len(WORDS):
            raise ValueError(f"vocabulary {self.vocabulary}: expected 2 to {len(WORDS)}, or none for all words")

    def starts(self) -> Sequence[str]:
        """The words."""
        return WORDS[: self.vocabulary]

    def questions(self) -> Sequence[str]:
        """The words, spaced."""
        return _spaced(self.vocabulary)

    def read(self, action: str) -> str | None:
        word = "".join(action.lower().split())
        return word if word in self.starts() else None

    def names(self, question: str, item: str) -> bool:
        return question.replace(" ", "") == item

    def answer(self, question: str, item: str) -> str:
        return feedback(question.replace(" ", ""), item, self.rule) + "\n"


@lru_cache(maxsize=8)
def _spaced(vocabulary: int | None) -> tuple[str, ...]:
    return tuple(" ".join(word) for word in WORDS[:vocabulary])


@lru_cache(maxsize=1 << 17)
def feedback(guess: str, hidden: str, rule: Rule) -> str:
    """Colours of a guess: `feedback("eerie", "crane", "standard")` is `b b y b g`."""
    left = Counter(letter for letter, other in zip(hidden, guess, strict=True) if letter != other)
    colours = []
    for letter, other in zip(guess, hidden, strict=True):
        elsewhere = letter in hidden if rule == "lmrl" else left[letter] > 0
        colours.append("g" if letter == other else "y" if elsewhere else "b")
        left[letter] -= letter != other
    return " ".join(colours)


plugin = Wordle
