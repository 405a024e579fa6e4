"""Answers that a text marks: in tags, in a box, or after "the answer is"."""

from __future__ import annotations

from llmrl.answers.boxes import last_box
from llmrl.answers.delimited import tagged
from llmrl.answers.hedges import corrected, refused
from llmrl.answers.stated import IS, NOUNS, Statements
from llmrl.answers.thoughts import after_thoughts

STATED = Statements(
    r"####",
    r"[^\S\n]*\#\#\#\#[ ]*",
    rf"答案|{NOUNS}|(?:answer|ans|choice|option|solution)(?=\**(?:\s*[:：=]|\s+[imsw]))",
    rf"""(?:(?<![a-z])(?:answer|ans|choice|option|solution)\**
             (?:\s+(?:is|(?:must|should|would|will)\s+be)\b(?!\s+not\b)\s*+[:：]?|\s*[:：=])
           | (?<!\w)(?:{NOUNS})\** {IS}
           | 答案(?:是|为|為|应为|應為|选|選|[:：])+)
          [\s*_]*""",
)


def marked(text: str) -> str | None:
    """The last answer that is marked, as written; None where none is.

    In this order: the last answer tags; the last box; the rest of the line after the last "the answer is", "Answer:"
    or `####`; empty where words before that deny it ("I do not think that the answer is"), or words behind it correct
    it ("wait, it is 6"). Text before `</think>` is not read.
    """
    text = after_thoughts(text)
    if (inside := tagged(text)) is not None:
        boxed = last_box(inside)
        return (inside if boxed is None else boxed).strip()
    if (boxed := last_box(text)) is not None:
        return boxed.strip()
    stated = STATED.last(text)
    if stated is None:
        return None
    instead = corrected(text[stated[0] :])
    return "" if refused(text[: stated[0]]) or (instead is not None and not STATED.last(instead)) else stated[1]


def innermost(answer: str) -> str:
    """Unwrap a marked answer that states one again: 5 of `Final answer: the answer is 5`."""
    return STATED.innermost(answer)
