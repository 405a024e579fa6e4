"""Compare the last number of the answer with the reference."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from llmrl.answers.arithmetic import last_calculation
from llmrl.answers.boxes import last_box
from llmrl.answers.delimited import tagged
from llmrl.answers.hedges import corrected, taken_back
from llmrl.answers.spelling import translated
from llmrl.answers.thoughts import after_thoughts
from llmrl.recipe.ranges import Amount
from llmrl.types import Problem, Score

NUMBER = re.compile(
    r"""(?P<sign>(?<![\w.)}\]])[-−+–])?(?:\\?[$€£¥]\s?(?P<inner>-)?)?(?<!\^)(?<!\^\{)
        (?P<digits>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?P<decimals>\.\d+)?
        (?:[eE](?P<exponent>[-+]?\d{1,3})(?![\w.]))?
        (?:\s?/\s?(?P<under>\d+)(?![.,/]*\d))?""",
    re.VERBOSE,
)
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d,.]+)\s*\}\s*\{\s*([\d,.]+)\s*\}")
MARKED = re.compile(r"####\s*(.+)")
INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
THOUSANDS = re.compile(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))")  # narrow blanks, which do not end a number
MINUS = dict.fromkeys("\u2010\u2011\u2043\u207b\ufe58\ufe63\uff0d", "-")  # signs that look like a minus
OPENING = re.compile(r"(?<![\s$*({\[])(?:\\(?:boxed|text|mathrm|mathbf)\s*\{|\\[(\[]|[\s$*({\[])*$")
JOINED = re.compile(r"\d[ \t.%$)}\]]*(?:[,;/|(]|\b(?:or|and|to)\b)(?:[ \t]*(?:or|and|maybe|perhaps|possibly))?$")
OPERAND = re.compile(r"[\d)}\]][ \t$]*(?:[-+*/×÷·^]|\\(?:times|cdot|div|pm)\b)[ \t]*$|(?:\\?sqrt|√)[ \t]*[({]*$")
APPLIED = re.compile(
    r"[xyzXYZ](?![A-Za-z])"
    r"|\s*(?:[}$)]\s*)*(?:\^|\*\*[ \t]*\d|![^\w=]*$|[²³¹⁰⁴-⁹]|[-+*×÷][ \t]*\d)|[OОοΟЗз\u0336](?![^\W\d_])"
)
TOUCHED = re.compile(r"\d:$|[\w)}\]]\*\*$")  # 12:05, 2**5
CHAINED = re.compile(
    rf"(?:=|(?<=\n)|^)[ \t$]*{NUMBER.pattern}[ \t$]*(?P<percent>\\?%[ \t$]*)?=[ \t$]*$", re.VERBOSE
)  # x = 60 = 53
PERCENT = re.compile(r"[ \t$]*\\?%")
NEAR = 80  # characters before a number in which another side of its equation stands
JOINING = (*",;/|(", "or", "and", "to", "maybe", "perhaps", "possibly")  # ends of what `JOINED` finds, but for blanks
OPERATING = (*"-+*/×÷·^√({", "times", "cdot", "div", "pm", "sqrt")  # of `OPERAND`
BREAK = re.compile(r"[^\d,./eE+\-−–$€£¥\\\s]|,(?!\d{3})|(?<![/$€£¥])\s(?!/)|(?<=[^\W_eE])[-+−–]")  # within no number
WINDOW = 20_000  # characters before the last digit in which the last number begins
MOST_DIGITS = 3000  # characters of a number; with an exponent still below the 4300 digits that Python writes
MOST_NUMBERS = 10_000  # in a marked answer


def last_number(text: str) -> Fraction | None:
    """Find the last number in a text, exactly; None where there is none, or one of more than `MOST_DIGITS`.

    Reads signs, thousands separators, decimals, `3/4`, `\\frac{3}{4}`, `1e-3` and currency signs; a percent sign is
    ignored. Where a line starts with `####`, that line alone is read.
    """
    marked = MARKED.findall(text)
    number = _last(_plain(marked[-1] if marked else text))
    return _value(number) if number else None


def _last(text: str) -> re.Match[str] | None:
    """Find the last number, by reading the end of the text alone."""
    digit = re.search(r"\d", text[::-1])
    if digit is None:
        return None
    end = len(text) - digit.start()
    begin = max(0, end - WINDOW)
    if begin and (cut := BREAK.search(text, begin, end - WINDOW // 2)):
        begin = cut.start()
    last = None
    for last in NUMBER.finditer(text, begin, end + 2):  # noqa: B007
        pass
    return last


def _plain(text: str) -> str:
    """Normalise a text's notation: remove signs without a width, and write every minus as `-`."""
    if not text.isascii():  # a pass over a long text is slow
        text = translated(THOUSANDS.sub("", INVISIBLE.sub("", text)), MINUS)
    if "\\" not in text and "{,}" not in text:
        return text
    text = FRACTION.sub(lambda match: f"{match[1]}/{match[2]}", text)
    return re.sub(r"\\!|\{,\}", lambda match: "," if match[0] == "{,}" else "", text)


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > MOST_DIGITS:
        return None
    digits = match["digits"].replace(",", "") or "0"
    value = Fraction(digits + (match["decimals"] or "")) * Fraction(10) ** int(match["exponent"] or 0)
    if match["under"]:
        if int(match["under"]) == 0:
            return None
        value /= int(match["under"])
    negative = match["sign"] in ("-", "−", "–") or match["inner"] is not None
    return -value if negative else value


_reference = lru_cache(maxsize=4096)(last_number)


@dataclass(frozen=True)
class Numeric:
    """1.0 if the last number of the answer equals the reference, else 0.0: what GSM8K asks (arXiv 2110.14168).

    Where an answer is marked, by tags, a box or `####`, that alone is read, and it must be one number, or end in
    `= number`. A number that is one of several (`54 or 53`), an operand (`7 + 53`, `53^2`), a bound (`> 53`) or denied
    (`not 53`) is no answer. Thoughts are not read.

    Raises:
        ValueError: the reference holds no number.
    """

    tolerance: Amount = 0.0  # how far apart the two may be

    def __call__(self, problem: Problem, text: str) -> Score:
        expected = _reference(problem.answer)
        if expected is None:
            raise ValueError(f"the reference {problem.answer!r} holds no number")
        answer, marked = _answer(after_thoughts(text))
        read = last_number(answer)
        if read is None:
            return Score(0.0, "unparsable", reason=_unread(answer))
        if why := not_alone(answer, marked):
            return Score(0.0, "wrong", reason=f"read {_show(read)}, {why}", answer=_show(read))
        right = abs(read - expected) <= Fraction(self.tolerance)
        return Score(
            float(right),
            "correct" if right else "wrong",
            reason=f"read {_show(read)}, expected {_show(expected)}",
            answer=_show(read),
        )


def _unread(answer: str) -> str:
    longest = max(map(len, re.findall(r"[\d.,/]+", answer)), default=0)
    return f"a number of {longest} characters" if longest > MOST_DIGITS else "no number in the answer"


def _answer(text: str) -> tuple[str, bool]:
    """Text to read, and whether it was marked as the answer."""
    inside = tagged(text)
    answer = text if inside is None else inside
    if (boxed := last_box(answer)) is not None:
        return boxed, True
    lines = deque(MARKED.finditer(answer), maxlen=1)
    if lines and corrected(answer[lines[-1].end() :]) is not None:
        return "", True
    return (lines[-1][1], True) if lines else (answer, inside is not None)


def not_alone(answer: str, marked: bool) -> str:
    """Reason why the last number of a text is not its answer; "" where it is."""
    text = _plain(answer)
    number = _last(text)
    assert number is not None
    before, after = text[: number.start()], text[number.end() :]
    if TOUCHED.search(before, max(0, len(before) - 4)):
        return "a part of an expression"
    if before[-1:].isspace() or before.endswith(tuple("$*({[")):
        before = OPENING.sub("", before)
    if marked and not before.rstrip().endswith("=") and _several(text, number):
        return "one of several numbers"
    end = before.rstrip()  # looked at first: each of the expressions reads all that is before, to find its end
    if end.endswith(JOINING) and JOINED.search(before):
        return "one of several numbers"
    if (end.endswith(OPERATING) and OPERAND.search(before)) or APPLIED.match(after):
        return "a part of an expression"
    if (chained := CHAINED.search(before[-NEAR:])) and _differ(
        _worth(chained, PERCENT.match(after) is not None), number
    ):
        return "which the answer says of another number"
    if end.endswith("=") and (worked := last_calculation(end[:-1])) is not None and _differ(worked, number):
        return "which the answer says of another number"
    return taken_back(before, after)


def _worth(side: re.Match[str], percent: bool) -> Fraction | None:
    """The value of a side of an equation, in percent where the other side is."""
    value = _value(side)
    return None if value is None else value * Fraction(100) ** (percent - bool(side["percent"]))


def _differ(value: Fraction | None, number: re.Match[str]) -> bool:
    """Tell whether a number is another than a value, or than that rounded to as many decimals."""
    read, decimals = _value(number), number["decimals"] or ""
    slack = Fraction(1, 2 * 10 ** (len(decimals) - 1)) if decimals else Fraction(0)
    return value is None or read is None or abs(value - read) > slack


def _several(text: str, last: re.Match[str]) -> bool:
    """Tell whether the numbers of a text have several values, or are too many to be one answer."""
    value, alike = _value(last), {last[0]}
    for count, number in enumerate(NUMBER.finditer(text)):
        if number[0] not in alike:
            if _value(number) != value:
                return True
            alike.add(number[0])
        if count >= MOST_NUMBERS:
            return True
    return False


def _show(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    try:
        return str(float(value)) if Fraction(str(float(value))) == value else str(value)
    except OverflowError:
        return str(value)


plugin = Numeric
