"""Twenty questions with a scripted answerer, which looks objects and attributes up in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

from llmrl.games.hidden import GuessingGame
from llmrl.games.objects import ATTRIBUTES, INTENTS, OBJECTS, SMALL
from llmrl.games.questions import NO, UNKNOWN, is_combined, is_yes_no, plain, subject, yes_no

NAMED = {name: thing for thing, names in OBJECTS.items() for name in names}


@dataclass(frozen=True)
class TwentyQuestions(GuessingGame):
    """Find an object by questions; a start is the hidden object.

    A question that names an object is read first, then the first attribute that it mentions. A question that means
    neither gets `I can't answer that.`, a text that does not begin as a question for yes or no, or has more than 40
    words, gets `No.`; both cost their turn. Layout and rewards are those of LMRL-Gym (arXiv 2311.18232), whose
    answerer is a language model; objects and attributes are our own.
    """

    objects: Literal["all", "small"] = "all"  # small: ten

    header: ClassVar[str] = "Questions:\n"
    limit: ClassVar[int] = 20
    rejected: ClassVar[str] = NO
    rules: ClassVar[str] = (
        "I am thinking of an object. Find it by at most 20 questions that can be answered by yes or no; each begins "
        "with Is, Does, Can, Do, Are or Could. The question that names the object wins, such as: Is it a dog? Answer "
        "with nothing but a question."
    )

    def starts(self) -> Sequence[str]:
        """The objects."""
        return _objects(self.objects)

    def questions(self) -> Sequence[str]:
        """Every attribute, then every object by its name."""
        return _questions(self.objects)

    def read(self, action: str) -> str | None:
        return action if is_yes_no(action) else None

    def names(self, question: str, item: str) -> bool:
        return meaning(question) == item

    def answer(self, question: str, item: str) -> str:
        meant = meaning(question)
        if meant is None:
            return UNKNOWN
        return yes_no(item in ATTRIBUTES[meant] if meant in ATTRIBUTES else item == meant)


@lru_cache(maxsize=4096)
def meaning(question: str) -> str | None:
    """The object that a question names, or else the question of the table that it means; None: neither."""
    text = plain(question)
    named = NAMED.get(subject(text))
    if named is not None or is_combined(text):
        return named
    return next((known for pattern, known in INTENTS if pattern.search(text)), None)


@lru_cache(maxsize=2)
def _objects(size: Literal["all", "small"]) -> tuple[str, ...]:
    return tuple(OBJECTS)[: SMALL if size == "small" else None]


@lru_cache(maxsize=2)
def _questions(size: Literal["all", "small"]) -> tuple[str, ...]:
    return (*ATTRIBUTES, *map(_naming, _objects(size)))


def _naming(thing: str) -> str:
    if thing.endswith("s"):
        return f"Are they {thing}?"
    return f"Is it {'an' if thing[0] in 'aeiou' else 'a'} {thing}?"


plugin = TwentyQuestions
