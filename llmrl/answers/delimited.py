"""Find the text between delimiters in one pass, however often a delimiter opens and never closes.

A lazy regular expression such as `<answer>(.*?)</answer>` reads to the end of the text for every opening that has no
closing: seconds for 40 KB of one repeated delimiter, which policies that loop write. Each function here finds exactly
the matches of the expression that it names, in a time that grows with the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_TAGS = {
    any_case: tuple(re.compile(tag, re.IGNORECASE if any_case else 0) for tag in ("<answer>", "</answer>"))
    for any_case in (True, False)
}
_FENCE = re.compile(r"^[ \t]*```([^\n]*)", re.MULTILINE)
_FORMULA = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$((?:[^$\\]|\\.)+?)(?<!\\)\$(?!\d)", re.DOTALL
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


class Formula(NamedTuple):
    """A formula between delimiters, at `start` to `end` of a text."""

    start: int
    end: int
    inside: str


def tagged(text: str, *, any_case: bool = True) -> str | None:
    """Read the last pair of answer tags, the last of `<answer>(.*?)</answer>`; None where there is none."""
    (first, last), found, at = _TAGS[any_case], None, 0
    while (opening := first.search(text, at)) and (closing := last.search(text, opening.end())):
        found, at = (opening.end(), closing.start()), closing.end()
    return None if found is None else text[slice(*found)]


def fenced(text: str) -> str | None:
    """Read the last fenced block; None where there is none that is closed.

    As the last of `^[ \\t]*```[^\\n]*\\n(.*?)^[ \\t]*```[ \\t]*$`, over all lines.
    """
    begin: int | None = None
    found: tuple[int, int] | None = None
    for fence in _FENCE.finditer(text):
        if begin is None:
            begin = fence.end() + 1 if fence.end() < len(text) else None
        elif not fence[1].strip(" \t"):
            found, begin = (begin, fence.start()), None
    return None if found is None else text[slice(*found)]


def formulas(text: str) -> list[Formula]:
    """Find the formulas between `$$`, `$`, `\\[` and `\\(`, in order."""
    if "$" not in text and "\\" not in text:  # neither stands in most texts, which are passed over at once
        return []
    found = []
    for formula in _FORMULA.finditer(without_unclosed(text)):
        begin, end = formula.span(formula.lastindex or 0)
        found.append(Formula(formula.start(), formula.end(), text[begin:end].strip()))
    return found


def without_unclosed(text: str) -> str:
    """Blank out, by signs that mean nothing, each `\\(` and `\\[` behind which none closes; the length stays."""
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        last = text.rfind(closing) + 1
        text = text[:last] + text[last:].replace(opening, "\0\0")
    return text


def replaced(text: str, found: Iterable[Formula], form: str) -> str:
    """Write each formula in another form: `form` with its inside for `{}`."""
    pieces, at = [], 0
    for formula in found:
        pieces += [text[at : formula.start], form.replace("{}", formula.inside)]
        at = formula.end
    return "".join([*pieces, text[at:]])


def braces(text: str, starts: Iterable[int]) -> dict[int, int]:
    """Find where the braces that open at `starts` close; a brace behind a backslash is none."""
    wanted, ends = set(starts), dict[int, int]()
    levels: dict[int, int] = {}  # by depth, the wanted brace that opened there and has not closed
    depth = 0
    for sign in _BRACE.finditer(text, min(wanted, default=len(text))):
        if sign[0] == "{":
            if wanted and sign.start() in wanted:
                levels[depth] = sign.start()
                wanted.remove(sign.start())
            depth += 1
        elif sign[0] == "}":
            depth -= 1
            if depth in levels:
                ends[levels.pop(depth)] = sign.start()
                if not levels and not wanted:
                    break
    return ends
