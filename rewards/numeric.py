"""Compare the last number of the answer with the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from llmrl.answers.extract import ANSWER_TAG, last_box
from llmrl.answers.thoughts import after_thoughts
from llmrl.types import Problem, Score

NUMBER = re.compile(
    r"""(?P<sign>(?<![\w.)}\]])[-−+–])?(?:\\?[$€£¥]\s?(?P<inner>-)?)?(?<!\^)(?<!\^\{)
        (?P<digits>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?P<decimals>\.\d+)?
        (?:[eE](?P<exponent>[-+]?\d{1,3})(?![\w.]))?
        (?:\s?/\s?(?P<under>\d+)(?![\d.,/]*\d))?""",
    re.VERBOSE,
)
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d,.]+)\s*\}\s*\{\s*([\d,.]+)\s*\}")
MARKED = re.compile(r"####\s*(.+)")
INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
THOUSANDS = re.compile(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))")  # narrow blanks, which do not end a number
MINUS = str.maketrans(dict.fromkeys("\u2010\u2011\u2043\u207b\ufe58\ufe63\uff0d", "-"))  # signs that look like a minus
OPENING = re.compile(r"(?:\\(?:boxed|text|mathrm|mathbf)\s*\{|\\[(\[]|[\s$*({\[])*$")
JOINED = re.compile(r"\d[ \t.%$)}\]]*(?:[,;/|(]|\b(?:or|and|to)\b)[ \t]*(?:or|and|maybe|perhaps|possibly)?[ \t]*$")
OPERAND = re.compile(r"[\d)}\]][ \t$]*(?:[-+*/×÷·^]|\\(?:times|cdot|div|pm)\b)[ \t]*$|(?:\\?sqrt|√)[ \t]*[({]*$")
APPLIED = re.compile(
    r"\s*(?:[}$)]\s*)*(?:\^|\*\*[ \t]*\d|![^\w=]*$|[²³¹⁰⁴-⁹]|[-+*×÷][ \t]*\d)|[OОοΟЗз\u0336](?![^\W\d_])"
)
DENIED = re.compile(r"\b(?:not|never|isn't|unless|except|than)(?:\s+(?:it|is|be|that|equal|to))*[\s:]*$", re.IGNORECASE)
BOUND = re.compile(r"(?:[<>≤≥≠]|\\(?:leq?|geq?|lt|gt|neq?)\b)[ \t]*$")
TAG = re.compile(r"<[^<>]*>[ \t]*$")


@lru_cache(maxsize=4096)
def last_number(text: str) -> Fraction | None:
    """Find the last number in a text, exactly; None where there is none.

    Reads signs, thousands separators, decimals, `3/4`, `\\frac{3}{4}`, `1e-3` and currency signs; a percent sign is
    ignored. Where a line starts with `####`, that line alone is read.
    """
    marked = MARKED.findall(text)
    found = list(NUMBER.finditer(_plain(marked[-1] if marked else text)))
    return _value(found[-1]) if found else None


def _plain(text: str) -> str:
    """Normalise a text's notation: remove signs without a width, and write every minus as `-`."""
    text = THOUSANDS.sub("", INVISIBLE.sub("", text)).translate(MINUS)
    text = FRACTION.sub(lambda match: f"{match[1]}/{match[2]}", text)
    return re.sub(r"\\!|\{,\}", lambda match: "," if match[0] == "{,}" else "", text)


def _value(match: re.Match[str]) -> Fraction | None:
    digits = match["digits"].replace(",", "") or "0"
    value = Fraction(digits + (match["decimals"] or "")) * Fraction(10) ** int(match["exponent"] or 0)
    if match["under"]:
        if int(match["under"]) == 0:
            return None
        value /= int(match["under"])
    negative = match["sign"] in ("-", "−", "–") or match["inner"] is not None
    return -value if negative else value


@dataclass(frozen=True)
class Numeric:
    """1.0 if the last number of the answer equals the reference, else 0.0: what GSM8K asks (arXiv 2110.14168).

    Where an answer is marked, by tags, a box or `####`, that alone is read, and it must be one number, or end in
    `= number`. A number that is one of several (`54 or 53`), an operand (`7 + 53`, `53^2`), a bound (`> 53`) or denied
    (`not 53`) is no answer. Thoughts are not read.

    Raises:
        ValueError: the reference holds no number.
    """

    tolerance: float = 0.0  # how far apart the two may be

    def __call__(self, problem: Problem, text: str) -> Score:
        expected = last_number(problem.answer)
        if expected is None:
            raise ValueError(f"the reference {problem.answer!r} holds no number")
        answer, marked = _answer(after_thoughts(text))
        read = last_number(answer)
        if read is None:
            return Score(0.0, "unparsable", reason="no number in the answer")
        if why := not_alone(answer, marked):
            return Score(0.0, "wrong", reason=f"read {_show(read)}, {why}", answer=_show(read))
        right = abs(read - expected) <= Fraction(self.tolerance)
        return Score(
            float(right),
            "correct" if right else "wrong",
            reason=f"read {_show(read)}, expected {_show(expected)}",
            answer=_show(read),
        )


def _answer(text: str) -> tuple[str, bool]:
    """Text to read, and whether it was marked as the answer."""
    tagged = ANSWER_TAG.findall(text)
    answer = tagged[-1] if tagged else text
    if (boxed := last_box(answer)) is not None:
        return boxed, True
    lines = MARKED.findall(answer)
    return (lines[-1], True) if lines else (answer, bool(tagged))


def not_alone(answer: str, marked: bool) -> str:
    """Reason why the last number of a text is not its answer; "" where it is."""
    text = _plain(answer)
    found = list(NUMBER.finditer(text))
    before, after = OPENING.sub("", text[: found[-1].start()]), text[found[-1].end() :]
    if marked and not before.rstrip().endswith("=") and len({_value(number) for number in found}) > 1:
        return "one of several numbers"
    if JOINED.search(before):
        return "one of several numbers"
    if OPERAND.search(before) or APPLIED.match(after):
        return "a part of an expression"
    if DENIED.search(before) or (BOUND.search(before) and not TAG.search(before)):
        return "which the answer denies or only bounds"
    return ""


def _show(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    return str(float(value)) if Fraction(str(float(value))) == value else str(value)


plugin = Numeric
