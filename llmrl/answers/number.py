"""Single numbers and expressions, with the unit or the percent sign that follows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from llmrl.answers.spelling import word_set
from llmrl.answers.units import BEHIND, MULTIPLIERS, is_known, unit
from llmrl.answers.words import COUNT, unwrapped

MOST_PARSED = 400  # characters of one expression; the parser slows down steeply with length
PLAIN = re.compile(r"([-+]?)\s*(\d+(?:\.\d*)?|\.\d+)")
RECURRING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{(\d+)\}")
DOTS = re.compile(r"\\dot\s*\{(\d)\}(\d*)\\dot\s*\{(\d)\}")
GOES_ON = re.compile(r"(\d{0,20})\.(\d{0,12}?)(\d{1,8}?)(\3+)\s*\.\.\.")  # 0.1666...
LEAST_REPEATED = 3  # digits, of a decimal that goes on
MIXED = re.compile(r"(?<![\d.}\w])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}|(?<![\d.}\w])(\d+) (?:and )?(\d+)/(\d+)(?![\d/])")
DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])")
SIGNS = {
    "\\pounds": "gbp",
    "£": "gbp",
    "\\euro": "euro",
    "€": "euro",
    "¥": "yen",
    "₹": "rupee",
    "₩": "won",
    "¢": "cent",
}
SIGN = r"\\?\$|€|£|¥|₹|₩|\\pounds|\\euro"
CURRENCY = re.compile(rf"^([-+]?)\s*(?:US\s*)?({SIGN})\s*(?=[-\d.\\])|\s*({SIGN}|¢)$")
DEGREES = re.compile(r"(\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\})\s*\^\\circ")
DEGREE_UNIT = re.compile(r"\s*\^\\circ\s*(?:\\(?:text|mathrm)\s*\{)?\s*([CFK])?\s*\}?$")
TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
POWER = r"(?:\s*\^\s*\{?\s*(-?\d)\s*\}?)?"
TEXT = r"\\(?:text|mathrm|mbox|textrm|textbf|textnormal|textup|textit|mathsf|rm)\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)?\}"
TEXT_UNIT = re.compile(rf"\s*({TEXT}){POWER}\s*$")
JOINED_UNIT = re.compile(
    rf" ?(\\frac\{{ ?{TEXT} ?{POWER} ?\}}\{{ ?{TEXT} ?{POWER} ?\}}"
    rf"|{TEXT}{POWER}(?: ?(?:/|\\cdot)? ?{TEXT}{POWER}){{1,3}}) ?$"
)
WORD_UNIT = re.compile(
    r"(?<=[\d)}!])\s*((?:(?:(?<= )[a-z]{1,3} )?[a-z]{1,4}/[a-z]{1,4}|[A-Za-zÀ-ɏ]{2,}\.?|(?<= )[mgsLlhN])"
    r"(?:\s+[A-Za-zÀ-ɏ]+){0,4})" + POWER + r"\s*$"
)
WORD_AFTER_COMMAND = re.compile(
    r"(?<=\\pi )\s*((?:cm|mm|km|meters?|inches|feet|units?|square \w+|cubic \w+|radians?|cm|in)(?:\s+\w+)?)"
    + POWER
    + r"\s*$"
)
PRODUCTS = word_set("ms pa ha pt qt rs ev um nm kb mb gb mol cal bit cup won")  # of letters, where they touch


@dataclass(frozen=True)
class Number:
    """An expression: its SymPy tree, and the signs written around it."""

    tree: Any
    unit: str = ""  # normalised; "" where there is none
    percent: bool = False
    places: int | None = None  # decimals written, where it is a plain decimal number
    significant: int = 0  # digits written, where it is a plain decimal number


def number(text: str) -> Number | None:
    """The number or expression a text stands for; None where it is none."""
    text, unit, percent = _strip(text)
    if text.lower() in COUNT:
        text = str(COUNT[text.lower()])
    if match := PLAIN.fullmatch(text):
        return _plain(match, unit, percent)
    text = RECURRING.sub(lambda m: _recurring(m[1], m[2], m[3]), DOTS.sub(r"\\overline{\1\2\3}", text))
    if "..." in text:
        text = GOES_ON.sub(_going_on, text)
    text = MIXED.sub(lambda m: rf"({m[1] or m[4]}+\frac{{{m[2] or m[5]}}}{{{m[3] or m[6]}}})", text)
    if TRIGONOMETRY.search(text):
        text = DEGREES.sub(r"(\\frac{\1\\pi}{180})", text)
    text = DECIMAL.sub(lambda m: rf"{{(\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}})}}", text)
    tree = _tree(text)
    return None if tree is None else Number(tree, unit, percent)


def _plain(match: re.Match[str], unit: str, percent: bool) -> Number:
    from sympy import Integer, Rational

    value = Fraction(match[1] + match[2])
    tree = Integer(value.numerator) if value.denominator == 1 else Rational(value.numerator, value.denominator)
    if "." not in match[2]:
        return Number(tree, unit, percent)
    digits = match[2].replace(".", "").lstrip("0")
    return Number(tree, unit, percent, len(match[2].partition(".")[2]), len(digits))


def _strip(text: str) -> tuple[str, str, bool]:
    """The text without percent sign, currency and unit; the unit; whether there was a percent sign."""
    text = text.strip()
    bare = re.sub(r"\s*(?:\\%|%|\\?\b(?:percent|per cent)\b|\\text\s*\{\s*(?:\\?%|percent)\s*\})\s*$", "", text)
    if bare != text:
        return bare.strip(), "", True
    name = ""
    if money := CURRENCY.search(text):
        name = SIGNS.get(money[2] or money[3], "dollar")
        text = BEHIND.sub("", CURRENCY.sub(lambda m: m[1] or "", text).strip())
    if (angle := DEGREE_UNIT.search(text)) and not TRIGONOMETRY.search(text):
        text, name = text[: angle.start()], (angle[1] or "degree").lower()
    for pattern in (JOINED_UNIT, TEXT_UNIT, WORD_UNIT, WORD_AFTER_COMMAND):
        match = pattern.search(text)
        if match and (before := text[: match.start()].strip()):
            factor, words = _scale(unwrapped(match[1])) if PLAIN.fullmatch(before) else (1, unwrapped(match[1]))
            found = "" if factor > 1 and not words else _unit(match, words, singular=before in ("1", "one"))
            if found is not None and (not name or not found or found == name):
                return rf"{before}\cdot {factor}" if factor > 1 else before, found or name, False
    return text.strip(), name, False


def _scale(words: str) -> tuple[int, str]:
    """The factor of `hundred million dollars`, and the words behind it."""
    factor, (first, _, others) = 1, words.partition(" ")
    while first in MULTIPLIERS:
        factor, words = factor * MULTIPLIERS[first], others
        first, _, others = words.partition(" ")
    return factor, words


def _unit(match: re.Match[str], words: str, singular: bool) -> str | None:
    """The unit or the thing counted that words behind a number name: `2 eggs`, `2cm`, but not `2xy`; None for none."""
    power = "" if match.re is JOINED_UNIT else match[2] or ""
    found = unit(words, power) or (unit(f"{words}s") if singular and not power and words.isalpha() else None)
    if found is None or match.re is not WORD_UNIT:
        return found
    spaced, first = match[0].startswith(" "), re.split(r"\W", words)[0]
    if is_known(found):
        return found if spaced or words not in PRODUCTS else None
    return found if len(first) >= 4 or (len(first) == 3 and spaced and re.search("[aeiou]", first)) else None


def _recurring(whole: str, still: str, again: str) -> str:
    """The fraction of a decimal whose last digits repeat for ever."""
    whole = whole or "0"
    under = (10 ** len(again) - 1) * 10 ** len(still)
    over = int(whole + still + again) - int(whole + still)
    return rf"(\frac{{{over}}}{{{under}}})"


def _going_on(match: re.Match[str]) -> str:
    """The fraction of `0.2727...`; the text itself where too few digits repeat."""
    repeated = match[3] + match[4]
    return match[0] if len(repeated) < LEAST_REPEATED else _recurring(match[1], match[2], match[3])


def _tree(text: str) -> Any:
    """The SymPy tree, not evaluated; None where the text is no expression."""
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from sympy import Expr, oo

    text = re.sub(r"\s+", " ", text.replace("^\\circ", "")).strip()
    if text in ("\\infty", "+\\infty", "-\\infty", "+ \\infty", "- \\infty"):
        return -oo if text.startswith("-") else oo
    if len(text) > MOST_PARSED or len(re.findall(r"[({]", text)) != len(re.findall(r"[)}]", text)):
        return None
    if not text or re.search(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}|\\(?:text|mathrm|mbox)|\.\.\.|!!|\?|[\"'#@]|\\%|%", text):
        return None
    if re.fullmatch(r"(?:[A-Z]{2,}|[a-zA-Z]{3,})", text):
        return None
    text = re.sub(r"(?<!\\sqrt)\[([^\[\]]*)\](?!\{)", r"(\1)", text)
    try:
        options = ConversionConfig(lowercase_symbols=False, interpret_as_mixed_fractions=False)
        tree = latex2sympy(
            text, is_real=None, convert_degrees=False, normalization_config=None, conversion_config=options
        )
    except Exception:  # the parser raises many kinds, each meaning: no expression
        return None
    return tree if isinstance(tree, Expr) else None
