"""Exact match of the answer and the reference after normalisation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from llmrl.answers.marked import innermost, marked
from llmrl.answers.spelling import translated
from llmrl.answers.thoughts import after_thoughts
from llmrl.answers.words import unwrapped
from llmrl.types import Problem, Score

SAME = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # of full width, as ASCII
SAME |= {"\u3000": " ", "’": "'", "‘": "'", "“": '"', "”": '"', "−": "-", "–": "-", "—": "-"}
MEANINGLESS = dict.fromkeys(';?…"«»。、', " ")  # signs, wherever they stand
PAIRS = {"(": ")", "[": "]", "{": "}"}
BRACKETS = re.compile(r"[()\[\]{},;]")
PUNCTUATION = re.compile(  # each begins with its sign, so that other signs are passed over at once
    r"""[.,:]+(?!\d) | !(?<=[^\W\d_]{2}!) | '(?<![\w)]')'* | '(?<=[^\W\d_]{2}')(?!\w)
        | -(?:(?<=[^\W\d_]{2}-)(?=[^\W\d_]{2})|(?<!\S-)-*+(?=\s+[^\W\d_]{2}|\s*$))""",
    re.VERBOSE,
)
RUN = re.compile(r"\*+|`+|\$+")
ARTICLES = re.compile(r"\b(?:the|a|an)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Exact:
    """1.0 if the answer is the reference but for its spelling, else 0.0: SQuAD's exact match without its faults.

    Both are brought to one form of Unicode, to single spaces and out of `\\text{}`, `**` and `$`, and normalised by the
    options. Punctuation is ignored only where it means nothing: `-5` is not `5`, `-x` not `x`, `1.5` not `15`, `C++`
    not `C`, `5!` not `5`, `[1,2)` not `(1,2]`. The answer is the marked one (in tags, in a box, after "the
    answer is"), else the whole text after the thoughts.

    Raises:
        ValueError: the reference, or one in the column `also`, is empty, or the problem has no such column.
    """

    ignore_case: bool = True
    ignore_punctuation: bool = True
    ignore_articles: bool = False  # the, a, an
    read: Literal["marked", "whole"] = "marked"  # whole: nothing but the answer may stand after the thoughts
    also: str | None = None  # a column of `info` with a list of other right answers

    def __call__(self, problem: Problem, text: str) -> Score:
        expected = [self.plain(one) for one in (problem.answer, *self._others(problem))]
        if not all(expected):
            raise ValueError(f"the reference {problem.answer!r} is empty, or another that is as good")
        answer = marked(text) if self.read == "marked" else None
        answer = after_thoughts(text) if answer is None else innermost(answer)
        found = self.plain(answer)
        if not found:
            return Score(0.0, "unparsable", reason="an empty answer")
        right = found in expected
        reason = f"read {found[:80]!r}, expected {' or '.join(map(repr, expected))[:200]}"
        return Score(float(right), "correct" if right else "wrong", reason=reason, answer=found)

    def _others(self, problem: Problem) -> Iterable[str]:
        if self.also is None:
            return ()
        others = problem.info.get(self.also)
        if not isinstance(others, list | tuple):
            raise ValueError(f"column {self.also!r} in `info`: expected a list of answers, found {others!r}")
        return map(str, others)

    def plain(self, text: str) -> str:
        """Normalise a text."""
        text = unmarked(translated(unicodedata.normalize("NFC", text), SAME).strip())
        if "\\" in text:
            text = unwrapped(text)
        if self.ignore_punctuation:
            text = _unbracketed(text)
        if self.ignore_case:
            text = text.casefold()
        if self.ignore_punctuation:
            text = translated(PUNCTUATION.sub(" ", text), MEANINGLESS)
        if self.ignore_articles:
            text = ARTICLES.sub(" ", text)
        return " ".join(text.split())


def _unbracketed(text: str) -> str:
    """Remove a pair of brackets around a whole text that holds no others, and no list: `(5)`, not `[1,2)`."""
    inner = text.rstrip(" .:;,")
    if len(inner) < 3 or PAIRS.get(inner[0]) != inner[-1] or BRACKETS.search(inner, 1, len(inner) - 1):
        return text
    return unmarked(inner[1:-1].strip())


def unmarked(text: str) -> str:
    """Remove pairs of `**`, `*`, a backtick or `$` around a text that touches them, from the outside in.

    A run of one sign is removed in one step, but for its innermost pair.
    """
    first, last, turned = 0, len(text) - 1, text[::-1]
    while last - first >= 2 and text[first] == text[last] and text[first] in "*`$":
        inner = 0  # more of the same sign behind the first and before the last
        if text[first] == text[first + 1] == text[last - 1]:
            inner = min(_run(text, first), _run(turned, len(text) - 1 - last)) - 1
        if text[first] == "*" and inner and last - first >= 4:
            alone = text[first + 2].isspace() or text[last - 2].isspace()
            size = 1 if alone else 2 * max(1, min(inner // 2, (last - first) // 4))
        elif text[first + 1].isspace() or text[last - 1].isspace():
            break
        else:
            size = max(1, min(inner, (last - first) // 2))
        first, last = first + size, last - size
    return text[first : last + 1]


def _run(text: str, place: int) -> int:
    """Length of the run of one of the signs that begins at a place."""
    run = RUN.match(text, place)
    return run.end() - place if run else 0


plugin = Exact
