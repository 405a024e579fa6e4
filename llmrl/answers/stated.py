"""Find answers that a text states, such as "the answer is 5" and `#### 5`, in one pass over the text."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from llmrl.answers.spelling import folded

NOUNS = "réponse|résultat|respuesta|resultado|resposta|solución|risposta|risultato|antwort|ergebnis|lösung"
IS = r"""(?:[ ](?:finale?|correct[ea]?|correcta|corretta))?
    (?:[ ](?:est|sont|es|son|é|são|è|sono|ist|sind|lautet|beträgt)\b(?![ ](?:pas|nicht|no|não|non)\b)|\s?[:：=])"""
"""The words for "answer" and "is" in Romance languages and German."""
FLAGS = re.VERBOSE | re.MULTILINE


class Statements:
    """Reads the rest of a line behind words or signs that state an answer, without the blanks at its end.

    Nothing is read twice: a regular expression that searches the end of an answer and of each answer inside it takes
    seconds for 40 KB of a repeated "Answer:". The expressions are tried only where a stem stands: they would be slow
    at every place of a long text.

    Args:
        sign_stems: alternatives of plain characters; the first of them in a line stands in a match of `signs` there.
        signs: an expression that must begin a line, with the blanks behind it; it reads no line end before it.
        word_stems: alternatives of plain characters, each with a short look at what follows it, if need be; one of
            them begins every match of `words`.
        words: an expression that may stand anywhere, with the blanks behind it.

    All are written in lower case, and ignore case.
    """

    def __init__(self, sign_stems: str, signs: str, word_stems: str, words: str) -> None:
        self._stem = re.compile(rf"({sign_stems})|(?:{word_stems})")
        self._sign = re.compile(rf"(?:{signs})(?=\S)", FLAGS)
        self._word = re.compile(rf"(?:{words})(?=\S)", FLAGS)
        self._here = re.compile(rf"(?:(?:{signs}|{words})(?=\S))*+", FLAGS)

    def all(self, text: str) -> list[str]:
        """List the answers, in order; what stands behind a statement on its line belongs to it."""
        return [text[begin:end].rstrip() for _, begin, end in self._places(folded(text))]

    def placed(self, text: str) -> list[tuple[int, str]]:
        """List the answers, in order, each with the place at which its statement begins."""
        return [(start, text[begin:end].rstrip()) for start, begin, end in self._places(folded(text))]

    def last(self, text: str) -> tuple[int, str] | None:
        """Read the last of the answers, with the place at which its statement begins; None where there is none."""
        last = deque(self._places(folded(text)), maxlen=1)
        return (last[0][0], text[last[0][1] : last[0][2]].rstrip()) if last else None

    def innermost(self, answer: str) -> str:
        """Read the answer that an answer states again: `Final answer: the answer is 5` says 5."""
        plain = folded(answer)
        first = next(self._places(plain), None)
        if first is None:
            return answer
        _, begin, end = first
        line = answer[begin:end].rstrip()
        plain = plain[begin : begin + len(line)]
        at = tried = self._behind(plain, 0)
        while stem := self._stem.search(plain, tried):
            tried = stem.end()
            if words := self._word.match(plain, stem.start()):
                at = self._behind(plain, words.end())
                tried = max(at, tried)
        return line[at:]

    def _behind(self, plain: str, at: int) -> int:
        """Find the end of the statements that follow one another from a place on."""
        here = self._here.match(plain, at)
        return here.end() if here else at

    def _places(self, plain: str) -> Iterator[tuple[int, int, int]]:
        """Yield where each statement and its answer begin, and where their line ends."""
        at = tried = 0  # where the search for stems goes on, and that for line ends
        while stem := self._stem.search(plain, at):
            start, at = stem.span()
            found = None
            if stem.lastindex:  # of a sign
                line = plain.rfind("\n", tried, start) + 1
                found = self._sign.match(plain, line) if line or not tried else None
                tried = start
            if found := found or self._word.match(plain, start):
                end = plain.find("\n", found.end())
                at = tried = end if end >= 0 else len(plain)
                yield found.start(), found.end(), at
