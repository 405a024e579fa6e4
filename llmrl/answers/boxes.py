"""Read the last box of a text as its writer used it: alone, one of several, an operand, or taken back by words."""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from llmrl.answers.arithmetic import last_calculation
from llmrl.answers.delimited import braces
from llmrl.answers.evaluate import same_numbers
from llmrl.answers.hedges import corrected, marked_taken_back
from llmrl.answers.normalise import clean
from llmrl.answers.number import Number
from llmrl.answers.spelling import folded
from llmrl.answers.units import MULTIPLIERS, leading, unit
from llmrl.answers.value import value
from llmrl.answers.words import unwrapped

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=[{\s\w\\-])")
FORMULA_END = re.compile(r"\$|\\\]|\\\)|\n")
TOKEN = re.compile(r"\s*(-?\d[\d.,]*\d|\\?\w+)")  # in a box without braces
WORD = re.compile(r"(?<!\\)\b[^\W\d_]+")
LABEL = re.compile(
    r"(?:\b(?:case|part|option|answer|solution|root|value|choice)\s*)?\(?\b(?:\d|[A-Za-z]|i{1,3}|iv|vi?)\b\)?\s*[:.)]"
    r"|\b[a-zA-Z](?:_\{?\w\}?)?\s*=\s*$"
)
BLANK = re.compile(r"(?:\\[()\[\],;:! ]|\\q?quad|\\\\|[\s$&.,;|*])*")
JOINS = re.compile(r"\b(?:and|or|maybe|perhaps|possibly|alternatively|either|as well as)\b|[,;&]")
SEPARATE = re.compile(
    r"\b(?:wait|no|not|wrong|incorrect|actually|instead|mistake|sorry|rather|but|however|so|then|thus|therefore|hence"
    r"|gives?|makes?|yields?|total|result|check|again|corrected?)\b|=|\d|[.!?](?=\s|$)|\n\s*\n"
)
OPERATOR = re.compile(
    r"""(?:\\(?:times|cdot|ast|div|pm|mp|sqrt|bmod|pmod|mod|ln|log|sin|cos|tan|exp)|[×÷·√±]|[\w)}\]]\s*[+*/^_]
        |\\[dtc]?(?:frac|binom)\s*(?:[\da-zA-Z]\s*)?\{?|\\sqrt\s*(?:\[[^\[\]]*\])?\s*\{|[\^_]\s*\{|(?<!color\{red)(?<!color\{blue)\}\s*\{
        |\\(?:overline|bar|dot)\s*\{|(?<![A-Za-z])[a-zA-Z]\s?\(|\d)$""",
    re.VERBOSE,
)
SIGN = r"""\\(?:neq?|lt|gt|nless|ngtr|n[lg]eq(?:slant)?|ll|gg|lesssim|gtrsim|n?mid|notin
        |(?:not|neg|lnot)\s*(?:[=<>]|\\[a-z]{2,6})?)(?![a-zA-Z])
    |[≠≪≫≮≯∤∉¬]"""
"""Signs of a denial, and of relations to another number; a bound that is reached, as by `\\le`, is none."""
DENIES = re.compile(rf"(?:{SIGN}|(?<![<>])[<>])\s*$", re.VERBOSE)
DENIED = re.compile(rf"[\s~]*(?:{SIGN}|(?:<(?![</|A-Za-z])|<(?=[a-z]\b(?!\s*/?>))|>(?!>)))", re.VERBOSE)
TAG = re.compile(r"<[/A-Za-z][^<>\n]{0,40}>\s*$")
BOUND = r"(?:\\[lg]e(?:q(?:slant)?)?|[≤≥])"
BOUND_ALONE = re.compile(rf"\\?[a-zA-Z]+(?:_\w)?{BOUND}@|@{BOUND}\\?[a-zA-Z]+(?:_\w)?")  # at the box
AROUND = re.compile(r"[\s${}.~]|\\[\[\](),;:! ]")
AGAIN = re.compile(r"[\s$,)\\]*or\s+(?:\$([^$\n]{1,100}?)[.,;]?\$|\\\(([^\n]{1,100}?)\\\))")  # a second form, or answer
OPENED = re.compile(r"(?:\\left|\\[bB]igg?l?)?\s*(?:\(|(?<!\\)\[|\\\{)$")
CLOSED = re.compile(r"\s*(?:\\right|\\[bB]igg?r?)?\s*(?:\)|(?<!\\)\]|\\\})")
LISTED = re.compile(r"[(\[][^()\[\]$\n]{1,40},\s*$|[$=]\s*-?\d+\s*,\s*$|\d\s*(?:\\text\s*\{\s*or\s*\}|or)\s*$")
LISTS = re.compile(
    r"\s*(?:\$,\s*\$-?\d+\$|,\s*[-\d\w\\.]{1,20}\s*(?:\)|\\right|\])|,\s*-?\d+\s*\$|:\s*\d|\\neq?(?![a-z]))"
)
EQUALS = re.compile(r"\s*=\s*(-?\d+)\s*(?:$|[$=\\,.])")
LETTER = re.compile(r"(?<![A-Za-z\\])[a-zA-Z]$")
WHOLE = re.compile(r"-?\d+")
APPLIED = re.compile(r"(?:(?<![\\A-Za-z])[A-Za-z]|[\d)}\]]|\d\s)$")  # in front of a bracket: a factor, or a function
DASHED = re.compile(r"[A-Za-z*:]{2}$")
MINUS = re.compile(r"[-−]([ \t]*)$")
OPERATED = re.compile(
    r"""[ \t~]*(?:\\[,;:! ]\s*)*(?:\}?\^(?!\s*\{?\s*\\circ)|![$\\)^*/+]|[+*/×÷·](?=\s*[\w\\({$-])
        |-(?=\s*(?:\d|\\(?!text)|[a-z]\b))
        |\\(?:times|cdot|div|pm|mp|bmod|mod|over|pi|sqrt|frac|left)(?![a-zA-Z])|\d)|[a-zA-Z](?![a-zA-Z])""",
    re.VERBOSE,
)
SUFFIX = re.compile(
    r"""[ ~]*(?:\\[,;:! ][ ]*)*(\\?%|°|\^\s*\{?\s*\\circ\s*\}?
        |\\(?:text|textrm|textnormal|textup|mathrm|mbox|operatorname)\s*\{\s*~?\s*
            (?!(?:is|are|as|and|or|because|since|for|if|when|so|which|where|by|with|in\stotal)\b)[^{}]*\}(?:\s*\^\s*\{?-?\d\}?)?)""",
    re.VERBOSE,
)
MOST_BOXES = 32  # the last ones of a text; of more that are joined, the text gives no answer
MOST_BETWEEN = 1000  # characters between two boxes that are one answer
MOST_WORDS = 6  # between two boxes that are one answer
BARS = ("\\lvert", "\\vert", "\\|", "\\lVert", "\\lfloor", "\\lceil")
FORMULA_BEGIN = ("$", "\\[", "\\(", "\n\n", "\\begin{align")
LINES = re.compile(r"\\\\|\\q?quad(?![a-zA-Z])|[&\n]|^\*?\}")
FAR = 300  # characters before a box that may belong to its equation
NEAR = 80  # characters on each side of a box that may belong to its formula


class Box(NamedTuple):
    """A box at `start` to `end` of a text."""

    start: int
    end: int
    inside: str


def last_box(text: str) -> str | None:
    """Read the last box, or the last few where only a few words, "and" or a comma stand between them.

    A minus before it and a unit behind it belong to it. Empty where it gives no answer: it is an operand of a larger
    expression, denied, corrected, or one of several by words. None where there is no box.
    """
    boxes = _boxes(text)
    if not boxes:
        return None
    last = boxes[-1]
    joined = [last]
    for before in reversed(boxes[:-1]):
        if before.end > joined[-1].start or not _joined(text[before.end : joined[-1].start]):
            break
        joined.append(before)
    behind = _outside(text[last.end : last.end + 2 * NEAR])
    scale, behind = _scale(behind)
    again = AGAIN.match(behind)
    if len(joined) == MOST_BOXES or (marked_taken_back("", behind) and not again):
        return ""
    if corrected(text[last.end :]) is not None:
        return ""
    if len(text) < FAR and BOUND_ALONE.fullmatch(AROUND.sub("", f"{text[: last.start]}@{text[last.end :]}")):
        return ""  # what ends no derivation is the relation itself
    parts = [_in_its_formula(text, box) for box in reversed(joined)] + ([again[1] or again[2]] if again else [])
    if scale and parts[-1]:
        parts[-1] += rf"\text{{ {scale.lower()}}}"
    return ", ".join(dict.fromkeys(parts)) if all(parts) else ""


def behind_boxes(text: str) -> str:
    """Read the text behind the last box."""
    boxes = _boxes(text)
    return text[boxes[-1].end :] if boxes else ""


def _boxes(text: str) -> list[Box]:
    """The last boxes; one that never closes runs to the end of its formula."""
    matches = deque(BOX.finditer(text), maxlen=MOST_BOXES)
    closings = braces(text, [match.end() for match in matches if text.startswith("{", match.end())])
    boxes = []
    for match in matches:
        start = match.end()
        if start in closings:
            boxes.append(Box(match.start(), closings[start] + 1, text[start + 1 : closings[start]]))
        elif text.startswith("{", start):
            rest = FORMULA_END.split(text[start + 1 :], maxsplit=1)[0]
            boxes.append(Box(match.start(), start + 1 + len(rest), rest))
        elif token := TOKEN.match(text, start):
            boxes.append(Box(match.start(), token.end(), token[1]))
    return boxes


def _joined(between: str) -> bool:
    """Tell whether two boxes are one answer, by what stands between them: nothing, or a few words that join."""
    if len(between) > MOST_BETWEEN:
        return False
    between = LABEL.sub(" ", between)
    if BLANK.fullmatch(between):
        return True
    words = folded(between)
    count = len(WORD.findall(words))
    return not SEPARATE.search(words) and (count <= 2 or (count <= MOST_WORDS and JOINS.search(words) is not None))


def _in_its_formula(text: str, box: Box) -> str:
    """Write a box with its sign and its unit; empty where it is an operand, or words deny it."""
    before, after = text[max(0, box.start - NEAR) : box.start], text[box.end : box.end + NEAR]
    inside = box.inside.strip()
    if marked_taken_back(before, ""):
        return ""
    before, after, applied = _out_of_brackets(before, after)
    before = TAG.sub("", before)
    place = before.rstrip(" \t~")
    if (
        applied
        or DENIES.search(place)
        or DENIED.match(after)
        or (place.endswith((",", "or", "}")) and LISTED.search(before))
        or LISTS.match(after)
        or (before[-1:].isalpha() and LETTER.search(before))
        or _differs(before, inside, after)
        or place.endswith(BARS)
        or (place.endswith("|") and after.lstrip().startswith("|"))
        or OPERATED.match(after)
        or OPERATOR.search(before if place[-1:].isdigit() else place)
    ):
        return inside if _part_of_a_true_equation(text, box) else ""
    suffix = SUFFIX.match(after)
    inside += suffix[1] if inside and suffix and _changes(suffix[1]) else ""
    minus = MINUS.search(place)
    left = place[: minus.start()].rstrip(" \t") if minus else ""
    if not minus or (left[-1:] in ("", "\n") and place != before) or (DASHED.search(left) and place != before):
        return inside  # behind a bullet or a dash
    if re.search(r"[\w)}]$", left):
        return inside if _part_of_a_true_equation(text, box) else ""
    return f"-{inside}" if re.fullmatch(r"[\w.\\{}/]+", inside) else f"-({inside})"


def _scale(behind: str) -> tuple[str, str]:
    """Words of number at the start of what follows a box, such as `thousand`, and the text behind them."""
    text = behind.lstrip("$)\\ ")
    name = leading(text)
    scale = name if name and MULTIPLIERS.keys() >= set(name.lower().split()) else ""
    return scale, text.removeprefix(scale) if scale else behind


def _differs(before: str, inside: str, after: str) -> bool:
    """Tell whether a formula says that a box of a whole number equals another number, or a calculation of another.

    A share may stand for its percentage: `1/5 = \\boxed{20}` percent.
    """
    if not WHOLE.fullmatch(inside) or after.startswith("_"):
        return False
    right = EQUALS.match(after)
    left = before.rstrip(" ")
    worked = last_calculation(left[:-1]) if left.endswith("=") else None
    return (right is not None and int(right[1]) != int(inside)) or (
        worked is not None and int(inside) not in (worked, 100 * worked)
    )


def _out_of_brackets(before: str, after: str) -> tuple[str, str, bool]:
    """Read the text around the brackets of a box, and whether they are those of a factor or of a function."""
    applied = False
    while before.endswith(("(", "[", "{")) and (opened := OPENED.search(before)) and (closed := CLOSED.match(after)):
        before, after = before[: opened.start()], after[closed.end() :]
        applied = applied or APPLIED.search(before) is not None
    return before, after, applied


def _changes(suffix: str) -> bool:
    """Tell whether what stands behind a box in its formula is a unit, or changes its value."""
    words = unwrapped(suffix)
    return "\\text" not in suffix.replace("\\mathrm", "\\text") or bool(leading(words) or unit(words))


def _part_of_a_true_equation(text: str, box: Box) -> bool:
    """Tell whether a box marks a part of a calculation that holds, such as `22 = 11 \\cdot \\boxed{2}`."""
    begin = max(text.rfind(sign, max(0, box.start - FAR), box.start) + len(sign) for sign in FORMULA_BEGIN)
    end = FORMULA_END.search(text, box.end, box.end + NEAR)
    inside = box.inside if text[box.start - 1].isdigit() else f"{{{box.inside}}}"
    sides = LINES.sub(
        " ", text[max(0, begin) : box.start] + inside + text[box.end : end.start() if end else box.end]
    ).split("=")
    if len(sides) < 2 or max(map(len, sides[-2:])) > FAR:
        return False
    read = [value(clean(side)) for side in sides[-2:]]
    return all(isinstance(side, Number) for side in read) and same_numbers(read[0].tree, read[1].tree)


def _outside(after: str) -> str:
    """Text that follows a box, behind its unit."""
    suffix = SUFFIX.match(after)
    return after[suffix.end() :] if suffix and _changes(suffix[1]) else after
