"""Guess my city with a scripted answerer, which looks facts up in a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar, Literal

from llmrl.games.cities import ALIASES, CITIES, City
from llmrl.games.hidden import GuessingGame
from llmrl.games.questions import UNKNOWN, is_combined, is_yes_no, plain, yes_no

Fact = Callable[[City], str]
"""Function from a city to the reply."""
FACTS = {
    r"\bcapitals?\b": "capital",
    r"\b(?:coast|coastal|sea|ocean|beach|beaches|port|harbou?r)\b": "coast",
    r"\b(?:southern hemisphere|south of the equator)\b": "south",
    r"\bolympics?\b": "olympics",
}
OPEN = {
    r"\bcontinent\b": lambda city: city.continent,
    r"\b(?:country|nation)\b": lambda city: city.country,
    r"\blanguages?\b": lambda city: city.language,
    r"\bhemisphere\b": lambda city: "Southern" if "south" in city.facts else "Northern",
    r"\b(?:population|how many people)\b": lambda city: f"About {city.millions:g} million",
}
NORTH = re.compile(r"\b(?:northern hemisphere|north of the equator)\b")
MILLIONS = re.compile(r"\b(?:over|more than|above|at least|larger than|bigger than) ([0-9.]{1,10}) ?(million)?\b")


@dataclass(frozen=True)
class GuessCity(GuessingGame):
    """Find a city by questions; a start is the hidden city.

    Its name anywhere in a text wins, if the text names no other city: a list of cities is no guess. Else the first
    fact counts that the text mentions, of the city's country, continent, language, population, coast, capital,
    hemisphere and Olympics. With `answers: free` questions with what and which are answered, too; an answer that would
    name the city is refused, as is a text without a known fact. Layout and rewards are those of LMRL-Gym
    (arXiv 2311.18232), whose answerer is a language model; cities and facts are our own.
    """

    answers: Literal["free", "yes_no"] = "free"

    header: ClassVar[str] = "Questions:\n"
    limit: ClassVar[int] = 20
    rejected: ClassVar[str] = UNKNOWN
    rules: ClassVar[str] = (
        "I come from a city. Find it by at most 20 questions about its country, continent, language, population, coast "
        "or history. The question that names the city wins, such as: Is it Paris? Answer with nothing but a question."
    )

    def starts(self) -> Sequence[str]:
        """The cities."""
        return tuple(CITIES)

    def questions(self) -> Sequence[str]:
        """Questions about facts, then every city by its name."""
        return _questions(self.answers)

    def read(self, action: str) -> str | None:
        return action or None

    def names(self, question: str, item: str) -> bool:
        return mentioned(question) == {item}

    def answer(self, question: str, item: str) -> str:
        if cities := mentioned(question):
            return yes_no(cities == {item}) if len(cities) == 1 else UNKNOWN
        fact = meaning(question, self.answers == "free")
        reply = UNKNOWN if fact is None else fact(CITIES[item])
        return UNKNOWN if item in reply else reply


@lru_cache(maxsize=4096)
def mentioned(question: str) -> frozenset[str]:
    """The cities that a question names."""
    text = f" {plain(question)} "
    return frozenset(city for name, city in _names().items() if f" {name} " in text)


@lru_cache(maxsize=4096)
def meaning(question: str, free: bool) -> Fact | None:
    """The fact that a question asks for; None where it is none of the table."""
    text = plain(question)
    if is_combined(text):
        return None
    if not is_yes_no(text) and not text.startswith(("has ", "was ", "did ")):
        return next((_told(value) for words, value in OPEN.items() if free and re.search(words, text)), None)
    if match := MILLIONS.search(text):
        return _above(match[1])
    if NORTH.search(text):
        return lambda city: yes_no("south" not in city.facts)
    for words, fact in FACTS.items():
        if re.search(words, text):
            return lambda city, fact=fact: yes_no(fact in city.facts)  # type: ignore[misc]
    return next((_equal(key, place) for key, place in _places() if re.search(rf"\b{place.lower()}\b", text)), None)


def _told(value: Callable[[City], str]) -> Fact:
    return lambda city: f"{value(city)}.\n"


def _above(number: str) -> Fact | None:
    try:
        millions = float(number)
    except ValueError:
        return None
    millions = millions / 1e6 if millions >= 1000 else millions
    return lambda city: yes_no(city.millions > millions)


def _equal(key: str, place: str) -> Fact:
    return lambda city: yes_no(getattr(city, key) == place)


@cache
def _names() -> dict[str, str]:
    return {name.lower(): name for name in CITIES} | dict(ALIASES)


@cache
def _places() -> list[tuple[str, str]]:
    """Names of continents, countries and languages with the field in which they stand, the longest first."""
    found = {(key, getattr(city, key)) for city in CITIES.values() for key in ("continent", "country", "language")}
    return sorted(found, key=lambda place: (-len(place[1]), place))


@cache
def _questions(answers: Literal["free", "yes_no"]) -> tuple[str, ...]:
    facts = ["Is it a capital?", "Is it on the coast?", "Is it in the southern hemisphere?"]
    facts += ["Has it hosted the Summer Olympics?"]
    facts += [f"Do more than {millions} million people live there?" for millions in (1, 2, 3, 4, 5, 7, 10, 14, 20)]
    for key, place in sorted(_places()):
        facts.append(f"Do people there speak {place}?" if key == "language" else f"Is it in {place}?")
    if answers == "free":
        facts += ["What continent is it on?", "What language do people speak there?", "What country is it in?"]
    return (*(fact for fact in facts if not mentioned(fact)), *(f"Is it {name}?" for name in CITIES))


plugin = GuessCity
