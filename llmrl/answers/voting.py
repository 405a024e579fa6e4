"""The final answer of a completion as a short text, so that equal answers can be counted."""

from __future__ import annotations

import re

from llmrl.answers.delimited import tagged
from llmrl.answers.spelling import folded
from llmrl.answers.thoughts import after_thoughts

STATED = re.compile(r"(?:####|answer\s*(?:is|:|=))\s*+\**\s*([^\n]+)")  # of a text in lower case
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


DIGITS = re.compile(r"\d[-\d,./]*")  # of a text that is turned round: all that a number may be
SIGNS = re.compile(r"[-,./]*")


def final_answer(text: str) -> str | None:
    """Extract the answer that a vote counts: the last box, answer tag, stated answer or number; None without any.

    The first kind that occurs is taken, behind the thoughts: what stands in them alone does not vote. Votes only group
    completions: the reward decides which group is right. Answers that are equal but written differently (`0.5`, `1/2`)
    are separate votes.
    """
    text = after_thoughts(text)
    for marked in (_boxed(text), tagged(text)):
        if marked is not None:
            return normal(marked)
    last = None
    for last in STATED.finditer(folded(text)):  # noqa: B007
        pass
    if last is not None:
        return normal(text[slice(*last.span(1))])
    number = _last_number(text)
    return None if number is None else normal(number)


def normal(answer: str) -> str:
    """Remove blanks, dollar signs, thousands separators, decorations of LaTeX and a final full stop."""
    answer = re.sub(r"\\[dt]frac", r"\\frac", answer)
    answer = re.sub(r"\\(?:left|right|displaystyle|[,;:! ])", "", answer)
    answer = re.sub(r"\\text\{([^{}]*)\}", r"\1", answer)
    answer = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", answer)
    return re.sub(r"[\s$]", "", answer).strip("*").removesuffix(".").strip("*").lower()


def _last_number(text: str) -> str | None:
    """Find the last number, by reading the end of the text alone."""
    turned = text[::-1]
    digit = DIGITS.search(turned)
    if digit is None:
        return None
    end = SIGNS.match(text, len(text) - digit.start())
    numbers = NUMBER.findall(text, len(text) - digit.end(), end.end() if end else len(text))
    return str(numbers[-1])


def _boxed(text: str) -> str | None:
    """The content of the last box, braces matched; None where there is none that closes."""
    start = text.rfind("\\boxed{")
    depth = 0
    for end in range(start + len("\\boxed"), len(text) if start >= 0 else 0):
        if text[end] in "{}" and text[end - 1] != "\\":
            depth += 1 if text[end] == "{" else -1
            if depth == 0:
                return text[start + len("\\boxed{") : end]
    return None
