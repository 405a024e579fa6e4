"""Answers that are words: names, choices, "no solution"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmrl.answers.hedges import behind_it

WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathsf|mathit|texttt|emph|textsf|textnormal|textup|textsc)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
MOST_UNWRAPPED = 4000  # characters; each pass takes away one command of those inside each other
LONE = re.compile(r"(?i:option|choice)\s*([A-Ja-j])|([A-J])")
PICKED = re.compile(r"(?:\(\s*([A-Za-z])\s*\)|([A-J])\s*[).:](?=[\s\d\\]|$))(\s*\S.*)?", re.DOTALL)
VALUED = re.compile(
    r"(?:(?:(?:[Oo]ption|[Cc]hoice)\s+)?(?:\(\s*([A-H])\s*\)|([A-H])\s*[).:])|(?:[Oo]ption|[Cc]hoice)\s+([A-H])\s*,)"
    r"(?:\s|\\\s|(?=[\\$]))\s*(?=\S*[\d\\])(.+)",
    re.DOTALL,
)
"""A letter of a choice, and the value of it."""
OTHERS = re.compile(r"(?<![A-Za-z])[A-HJ](?![A-Za-z])|\([a-j]\)|\b(?:or|and|not)\b")
PUNCTUATION = re.compile(r"(?<!\d)[.,;:!\"()\[\]{}*$]|[.,;:!\"()\[\]{}*$](?!\d)|'")  # not within a number
SAME = {
    "no solution": r"(?:there (?:is|are) )?no (?:real )?(?:solutions?|values?|roots?)|none"
    r"|(?:the )?empty set|\\emptyset|\\\{\s*\\\}",
    "does not exist": r"(?:the limit )?does not exist|dne",
    "undefined": r"(?:is )?undefined|not defined",
    "all real numbers": r"(?:all |the set of (?:all )?)?(?:real numbers|reals)|\\mathbb\s*\{?\s*R\s*\}?",
    "infinitely many": r"infinitely many(?: solutions?)?|infinite(?: number of)? solutions?",
}
COUNT = {
    word: n
    for n, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}


@dataclass(frozen=True)
class Words:
    """Text that is compared as text, by its form `plain`."""

    text: str

    @property
    def plain(self) -> str:
        return plain(self.text)


def plain(text: str) -> str:
    """Reduce words to lower case without markup, articles and punctuation, with a space between words.

    Formulas keep their case. A letter alone stays alone: `y-e-s` is not `yes`.
    """
    bare = unwrapped(text)
    if "\\" in bare or re.search(r"[=^_+<>]", bare):
        return re.sub(r"[\s{}]", "", bare)
    bare = re.sub(r"^(?:the|a|an)\s+", "", bare.strip().lower())
    bare = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", bare)
    bare = re.sub(r"(?<=\d)(?=[a-z])|(?<=[a-z]{2})-(?=[a-z]{2})", " ", bare)
    return " ".join(PUNCTUATION.sub(_blank, bare).split())


def _blank(sign: re.Match[str]) -> str:
    return "" if sign[0] == "'" else " "


def unwrapped(text: str) -> str:
    """Remove \\text{...} and similar commands around words; a text too long to be an answer keeps them."""
    while len(text) <= MOST_UNWRAPPED and (shorter := WRAPPED.sub(r" \1 ", text)) != text:
        text = shorter
    return " ".join(text.split())


def choice(text: str) -> str | None:
    """The letter of a choice, as in `(C)`, `C.`, `\\text{C}`, `C) 12`, `option C`; None where it is not one.

    Other letters behind it, and words that take it back, make it none.
    """
    bare = unwrapped(text).strip("$*{} ")
    if match := LONE.fullmatch(bare):
        return (match[1] or match[2]).upper()
    if (match := PICKED.fullmatch(bare)) and not OTHERS.search(match[3] or "") and not behind_it(match[3] or ""):
        return (match[1] or match[2]).upper()
    return None


def valued_choice(text: str) -> tuple[str, str] | None:
    """The letter of a choice and the value behind it, as in `(B) 42`; None where it is not both.

    Other letters behind it, and words that take it back, make it none.
    """
    found = VALUED.fullmatch(unwrapped(text).strip("* "))
    if not found or OTHERS.search(found[4]) or behind_it(found[4]):
        return None
    return found[1] or found[2] or found[3], found[4].strip()


def words(text: str) -> Words | None:
    """The words that an answer consists of; None where it may be mathematics."""
    bare = unwrapped(text)
    for known, pattern in SAME.items():
        if re.fullmatch(pattern, bare.lower() if "\\" not in bare else bare):
            return Words(known)
    if re.fullmatch(r"\(?[A-Z]\)", bare) or (bare != text and re.fullmatch(r"[A-Za-z]", bare)):
        return Words(bare)
    if re.fullmatch(r"\d{1,2}(?::\d\d)?\s*[apAP]\.?\s?[mM]\.?", bare):  # a time of day
        return Words(bare)
    letters = re.fullmatch(r"[A-Za-z][A-Za-z'\- ]*[A-Za-z.]", bare)
    if (
        letters
        and (len(bare) >= 3 or bare.lower() == "no")
        and not re.search(r"\b(?:and|or)\b", bare)
        and bare.lower() not in COUNT
    ):
        return Words(bare)
    return None
