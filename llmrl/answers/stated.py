"""Find answers that a text states, such as "the answer is 5" and `#### 5`, in one pass over the text."""

from __future__ import annotations

import re

FLAGS = re.VERBOSE | re.MULTILINE | re.IGNORECASE


class Statements:
    """Reads the rest of a line behind words or signs that state an answer, without the blanks at its end.

    Nothing is read twice: a regular expression that searches the end of an answer and of each answer inside it takes
    seconds for 40 KB of a repeated "Answer:".

    Args:
        signs: an expression that must begin a line, with the blanks behind it; it reads no line end before it.
        words: an expression that may stand anywhere, with the blanks behind it.
    """

    def __init__(self, signs: str, words: str) -> None:
        self._any = re.compile(rf"(?:^(?:{signs})|(?:{words}))(?=\S)([^\n]*)", FLAGS)
        self._here = re.compile(rf"(?:{signs}|{words})(?=\S)", FLAGS)
        self._later = re.compile(rf"(?:{words})(?=\S)", FLAGS)

    def all(self, text: str) -> list[str]:
        """List the answers, in order; what stands behind a statement on its line belongs to it."""
        return [statement.rstrip() for statement in self._any.findall(text)]

    def innermost(self, answer: str) -> str:
        """Read the answer that an answer states again: `Final answer: the answer is 5` says 5."""
        first = self._any.search(answer)
        if first is None:
            return answer
        line, at = first[1].rstrip(), 0
        while statement := self._here.match(line, at) or self._later.search(line, at):
            at = statement.end()
        return line[at:]
