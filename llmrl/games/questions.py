"""Reading of questions: their plain form, and the thing that they name."""

from __future__ import annotations

import re
import unicodedata

UNKNOWN = "I can't answer that.\n"
YES, NO = "Yes.\n", "No.\n"
OPENINGS = ("is", "does", "can", "do", "are", "could")
MAX_WORDS = 40
_COMBINED = re.compile(r"\b(?:not|or|and|nor|neither)\b|n't\b")
_SUBJECT = re.compile(
    r"(?:is|are|could|can|do|does) "
    r"(?:it|they|this|that|these|those|(?:the|your) (?:object|thing|item|answer|word)(?: you are thinking of)?) "
    r"(?:be )?(?:(?:a|an|the|some) )?(?:(?:kind|type) of )?(.+)"
)


def plain(question: str) -> str:
    """The question in small ASCII letters and digits, its words parted by single blanks; accents are dropped."""
    text = unicodedata.normalize("NFKD", question).encode("ascii", "ignore").decode().lower()
    return " ".join(re.sub(r"[^a-z0-9'.-]+", " ", text.replace(",", "")).strip(" .").split())


def is_yes_no(question: str) -> bool:
    """True for a text that begins as a question for yes or no does, of at most `MAX_WORDS` words."""
    words = question.split()
    return 0 < len(words) <= MAX_WORDS and words[0].lower() in OPENINGS


def is_combined(text: str) -> bool:
    """True for a plain question that is negated or joins several, whose answer a table does not have."""
    return _COMBINED.search(text) is not None


def subject(text: str) -> str:
    """The part of a plain question behind its opening: `dog` of `is it a dog`; "" where it does not open so."""
    match = _SUBJECT.fullmatch(text)
    return match[1] if match else ""


def yes_no(value: bool) -> str:
    """The reply for a fact."""
    return YES if value else NO
