"""Tell short answers, on which graders agree, from prose."""

from __future__ import annotations

import re

from llmrl.datafiles.competition import last_boxed

MOST = 40  # characters
WRAPPED = re.compile(r"^(?:\$+|\\\(|\\\[)\s*(.*?)\s*(?:\$+|\\\)|\\\])$", re.DOTALL)
LATEX = re.compile(
    r"\\(?:[dt]?frac|sqrt|pi|infty|cdot|times|pm|cup|left|right|le|leq|ge|geq|circ|theta|ln|log|sin|cos|tan)\b"
)
NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.?\d+(?:[eE][-+]?\d+)?")
SIGNS = re.compile(r"[-+*/^=<>!%°:;,|_(){}\[\]\\$ ≤≥−×÷·π√∞]")
PAIRS = {")": "([", "]": "([", "}": "{"}  # an interval may open with one bracket and close with the other


def canonical(answer: str) -> bool:
    """Recognise a number, a choice, or a formula of numbers and single letters, in at most `MOST` signs.

    Words, several sentences, open brackets and empty references are refused: on those graders and people disagree.
    """
    text = (last_boxed(answer) or answer).strip().rstrip(".")
    while match := WRAPPED.match(text):
        text = match[1]
    if not text or len(text) > MOST or "\n" in text or not _balanced(text):
        return False
    if re.fullmatch(r"\(?[A-Ja-j]\)?|yes|no|true|false", text, re.IGNORECASE):
        return True
    rest = SIGNS.sub(" ", NUMBER.sub(" ", LATEX.sub(" ", text)))
    return bool(re.search(r"\d|\\pi|π|[a-z]", text)) and all(len(word) == 1 and word.isalpha() for word in rest.split())


def _balanced(text: str) -> bool:
    opened: list[str] = []
    for sign in text:
        if sign in "([{":
            opened.append(sign)
        elif sign in PAIRS and (not opened or opened.pop() not in PAIRS[sign]):
            return False
    return not opened
