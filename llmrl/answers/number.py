"""Single numbers and expressions, with the unit or the percent sign that follows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from llmrl.answers.words import COUNT, unwrapped

MOST_PARSED = 400  # characters of one expression; the parser slows down steeply with length
PLAIN = re.compile(r"([-+]?)\s*(\d+(?:\.\d*)?|\.\d+)")
RECURRING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{(\d+)\}")
MIXED = re.compile(r"(?<![\d.}\w])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}|(?<![\d.}\w])(\d+) (?:and )?(\d+)/(\d+)(?![\d/])")
DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])")
CURRENCY = re.compile(r"^([-+]?)\s*(?:US)?(?:\\?\$|€|£|¥|\\pounds|\\euro)\s*(?=[-\d.\\])|\s*(?:\\?\$|€|£|¥)$")
DEGREES = re.compile(r"(\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\})\s*\^\\circ")
DEGREE_UNIT = re.compile(r"\s*\^\\circ\s*(?:\\(?:text|mathrm)\s*\{)?\s*([CFK])?\s*\}?$")
TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
EXPONENT = r"(?:\s*\^\s*\{?\s*([23])\s*\}?)?"
TEXT_UNIT = re.compile(r"\s*\\(?:text|mathrm|mbox|textrm|textbf|rm)\s*\{\s*([^{}]*?)\s*\}" + EXPONENT + r"\s*$")
WORD_UNIT = re.compile(
    r"(?<=[\d)}!])\s*((?:[A-Za-z]{2,}\.?|(?<= )[mgsLlhN]|[a-z]{1,4}/[a-z]{1,4})(?:\s+[A-Za-z]+){0,4})"
    + EXPONENT
    + r"\s*$"
)
WORD_AFTER_COMMAND = re.compile(
    r"(?<=\\pi )\s*((?:cm|mm|km|meters?|inches|feet|units?|square \w+|cubic \w+|radians?|cm|in)(?:\s+\w+)?)"
    + EXPONENT
    + r"\s*$"
)
NO_UNIT = re.compile(
    r"\b(?:more|less|than|not|no|or|and|choose|mod|over|plus|minus|times|divided|to|out|of|is|are|if|when|base|sqrt|pi|x|y)\b",
    re.IGNORECASE,
)
MULTIPLIERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
UNITS = {
    "m": "meter|metre", "cm": "centimeter|centimetre", "mm": "millimeter|millimetre", "km": "kilometer|kilometre",
    "in": "inch|inche", "ft": "foot|feet", "yd": "yard", "mi": "mile", "g": "gram|gm", "kg": "kilogram",
    "lb": "pound", "oz": "ounce", "s": "second|sec", "min": "minute", "h": "hour|hr", "l": "liter|litre",
    "ml": "milliliter|millilitre", "mph": "miles per hour|mile per hour|mi/h|mile/hour|miles/hour",
    "km/h": "kph|kilometers per hour|km/hr|kmh|km per hour",
    "m/s": "meters per second|metres per second|m per s", "degree": "deg", "dollar": "usd|buck", "euro": "eur",
    "n": "newton", "j": "joule", "w": "watt", "v": "volt", "hz": "hertz", "radian": "rad",
    "c": "celsius|degrees celsius|degree celsius", "f": "fahrenheit|degrees fahrenheit|degree fahrenheit",
    "k": "kelvin",
}  # fmt: skip
CANON = {name: short for short, names in UNITS.items() for name in [short, *names.split("|")]}


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
    text = RECURRING.sub(_recurring, text)
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
    money = CURRENCY.sub(lambda m: m[1] or "", text).strip()
    unit = "dollar" if money != text else ""
    text = money
    if (angle := DEGREE_UNIT.search(money)) and not TRIGONOMETRY.search(money):
        text, unit = money[: angle.start()], (angle[1] or "degree").lower()
    for pattern in (TEXT_UNIT, WORD_UNIT, WORD_AFTER_COMMAND):
        match = pattern.search(text)
        if match and text[: match.start()].strip() and _is_unit(match):
            text, unit = text[: match.start()].strip(), _unit(match[1], match[2])
            break
    first, _, others = unit.partition(" ")
    if first in MULTIPLIERS and PLAIN.fullmatch(text):
        text, unit = rf"{text}\cdot 10^{{{MULTIPLIERS[first]}}}", others
    return text.strip(), unit, False


def _is_unit(match: re.Match[str]) -> bool:
    """Decide whether the words after a number name a unit or a thing counted: `2 eggs`, `2cm`, but not `2xy`."""
    word = match[1]
    if NO_UNIT.search(word):
        return False
    if match.re is TEXT_UNIT or _canonical(re.sub(r"\.", "", word.lower())) is not None or len(word) == 1:
        return True
    first = re.split(r"\W", word)[0]
    return len(first) >= 4 or (len(first) == 3 and match[0].startswith(" ") and bool(re.search("[aeiou]", first)))


def _canonical(name: str) -> str | None:
    return next((CANON[name] for name in (name, name.removesuffix("s")) if name in CANON), None)


def _unit(word: str, power: str | None) -> str:
    """Normalise a unit's spelling: singular, short, `m^2` for square metres."""
    name = re.sub(r"[.\\]", "", unwrapped(word).strip().lower())
    if shape := re.match(r"(?:square|sq|cubic|cu)\s+", name):
        power, name = ("2" if shape[0].startswith("sq") else "3"), name[shape.end() :]
    name = _canonical(name) or re.sub(r"(?<=[a-z]{2})s\b", "", name)
    return f"{name}^{power}" if power else name


def _recurring(match: re.Match[str]) -> str:
    whole, still, again = match[1] or "0", match[2], match[3]
    under = (10 ** len(again) - 1) * 10 ** len(still)
    over = int(whole + still + again) - int(whole + still)
    return rf"(\frac{{{over}}}{{{under}}})"


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
