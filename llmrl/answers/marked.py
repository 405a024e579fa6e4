"""Answers that a text marks: in tags, in a box, or after "the answer is"."""

from __future__ import annotations

import re

from llmrl.answers.extract import last_box
from llmrl.answers.thoughts import after_thoughts

TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
STATED = re.compile(
    r"""^\s*\#\#\#\#[ ]*(?P<marked>\S.*?)\s*$
        | (?:(?<![a-z])(?:answer|ans|choice|option|solution)\**
             (?:\s+(?:is|(?:must|should|would|will)\s+be)\b(?!\s+not\b)\s*[:：]?|\s*[:：=])
           | 答案(?:是|为|為|应为|應為|选|選|[:：])+)
          [\s*_]*(?P<stated>\S[^\n]*?)\s*$""",
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)


def marked(text: str) -> str | None:
    """The last answer that is marked, as written; None where none is.

    In this order: the last answer tags; the last box; the rest of the line after the last "the answer is", "Answer:"
    or `####`. Text before `</think>` is not read.
    """
    text = after_thoughts(text)
    if tagged := TAGGED.findall(text):
        return (last_box(tagged[-1]) or tagged[-1]).strip()
    if (boxed := last_box(text)) is not None:
        return boxed.strip()
    return ([match["marked"] or match["stated"] for match in STATED.finditer(text)] or [None])[-1]


def innermost(answer: str) -> str:
    """Unwrap a marked answer that states one again: 5 of `Final answer: the answer is 5`."""
    while match := STATED.search(answer):
        answer = match["marked"] or match["stated"]
    return answer
