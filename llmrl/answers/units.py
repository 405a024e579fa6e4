"""Units behind numbers: one spelling for each, things that are counted, and words that are no unit."""

from __future__ import annotations

import re
from collections import Counter

from llmrl.answers.spelling import word_set
from llmrl.answers.words import unwrapped

MULTIPLIERS = {
    "dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
ASKED = re.compile(rf"\bhow\s+many\s+({'|'.join(MULTIPLIERS)})s?\b", re.IGNORECASE)
UNITS = {
    "m": "meter|metre", "cm": "centimeter|centimetre", "mm": "millimeter|millimetre", "km": "kilometer|kilometre",
    "nm": "nanometer", "µm": "micrometer|micron|um", "in": "inch|inche", "ft": "foot|feet", "yd": "yard", "mi": "mile",
    "g": "gram|gm", "kg": "kilogram|kilo", "mg": "milligram", "t": "tonne|ton", "lb": "", "pound": "", "oz": "ounce",
    "s": "second|sec", "ms": "millisecond", "min": "minute", "h": "hour|hr", "d": "day", "week": "wk", "month": "",
    "year": "yr", "l": "liter|litre", "ml": "milliliter|millilitre", "gal": "gallon", "qt": "quart", "pt": "pint",
    "cup": "", "acre": "", "ha": "hectare", "degree": "deg", "radian": "rad", "c": "celsius", "f": "fahrenheit",
    "k": "kelvin", "unit": "", "n": "newton", "j": "joule", "kj": "kilojoule", "w": "watt", "kw": "kilowatt",
    "v": "volt", "a": "amp|ampere", "ohm": "Ω", "hz": "hertz", "khz": "kilohertz", "mhz": "megahertz", "pa": "pascal",
    "kpa": "kilopascal", "atm": "atmosphere", "mol": "mole", "ev": "electronvolt", "cal": "calorie",
    "kcal": "kilocalorie", "bit": "", "byte": "", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte",
    "dollar": "usd|buck", "cent": "¢|penny|pennie", "euro": "eur", "gbp": "£", "yen": "jpy", "rupee": "inr|rs",
    "yuan": "rmb|cny", "won": "krw", "peso": "", "franc": "chf", "ruble": "rouble|rub",
}  # fmt: skip
CANON = {name: short for short, names in UNITS.items() for name in [short, *names.split("|")] if name}
MEGA = re.compile(r"M[mgsl]")  # no millimeter, milligram ...
ALIKE = ({"degree", "c"}, {"degree", "f"}, {"pound", "lb"}, {"pound", "gbp"})  # the first leaves open which it is
SPELLED = [
    (r"\b(?:mph|miles? an hour)\b", "mi/h"), (r"\b(?:kph|kmh|kmph)\b", "km/h"), (r"\bmps\b", "m/s"),
    (r"\bdegrees?\s+(c|f|k|celsius|fahrenheit|kelvin)\b", r"\1"), (r"\bper\b", "/"), (r"\s*/\s*", "/"),
    (r"\b(?:square|sq)\s+(\w+)", r"\1^2"), (r"\b(?:cubic|cu)\s+(\w+)", r"\1^3"),
    (r"(\w+)\s+squared\b", r"\1^2"), (r"(\w+)\s+cubed\b", r"\1^3"),
]  # fmt: skip
LINKING = word_set("square sq cubic cu per an mph kph squared cubed")
BEHIND = re.compile(
    r"\s+(?:left|remaining|total|altogether|each|long|tall|wide|high|deep|old|away|apart|in\s+(?:all|total))$"
)
PLURAL = re.compile(r"[a-zà-öø-ɏ'-]{2,}[^ius'\W\d]s|[a-z-]{3,}ies")
IRREGULAR = word_set("people children men women mice teeth geese sheep fish deer oxen dice")
NO_THING = word_set(
    """minus plus less times is was has does as this thus its halves thirds fourths fifths sixths sevenths eighths
    ninths tenths hundredths thousandths millionths tens hundreds thousands millions billions dozens scores ones
    twos threes quarters more than not no nor or and choose mod over divided to out of are if when base sqrt pi
    x y below above under zero one two three four five six seven eight nine ten remainder negative positive
    either maybe perhaps about per with without except unless but answers options choices percents percentages
    roots powers squares cubes logs inverses reciprocals opposites negatives others sometimes always besides
    across towards afterwards backwards downwards upwards forwards previous wrong false incorrect oops radicals
    millones milhões milioni millionen milliers tausende docenas douzaines dutzende
    logarithms sines cosines derivatives integrals factorials halfs"""
)
AMBIGUOUS = word_set("m g s h l n j w v a c f k t d in min pa cal rs cup ha pt")
"""Short units that stand in prose for other words, too."""


def asked_scale(question: str) -> str:
    """The word of `how many million tons ...?`, by which a question counts; "" for one that counts by ones."""
    asked = ASKED.search(question)
    return asked[1].lower() if asked else ""


def unit(text: str, power: str = "") -> str | None:
    """Normalise a unit, `m s^-1` for meters per second, or a thing that is counted; None for words that are neither."""
    name = re.sub(r"\\frac\s*\{(.*?)\}\s*\{(.*)\}", r"\1/\2", text)
    name = re.sub(r"\\(?:cdot|times)(?![a-z])|[·⋅~]|\\[,;:! ]", " ", unwrapped(name))
    name = re.sub(r"\s*\^\s*", "^", name)
    name = re.sub(r"[{}$]|\.(?!\d)", "", name).strip()
    if MEGA.fullmatch(name):
        return f"mega {name}"
    name = name.lower() + (f"^{power}" if power else "")
    for pattern, plain in SPELLED:
        name = re.sub(pattern, plain, name)
    powers: Counter[str] = Counter()
    for sign, side in zip((1, -1), name.split("/", 1), strict=False):
        for token in side.replace("/", " ").split():
            word, _, exponent = token.partition("^")
            known = CANON.get(word) or CANON.get(word.removesuffix("s"))
            if known is None or not re.fullmatch(r"(?:-?\d)?", exponent):
                return _counted(name)
            powers[known] += sign * int(exponent or 1)
    return " ".join(f"{name}^{power}" if power != 1 else name for name, power in sorted(powers.items())) or None


def _counted(name: str) -> str | None:
    """A thing that is counted, such as `red marble`: up to three words, the last of them a plural."""
    words = BEHIND.sub("", name).split()
    if (
        not 1 <= len(words) <= 3
        or NO_THING & set(words)
        or not all(re.fullmatch(r"[a-zà-öø-ɏ][a-zà-öø-ɏ'-]*", word) for word in words)
    ):
        return None
    if words[-1] not in IRREGULAR and not PLURAL.fullmatch(words[-1]):
        return None
    return " ".join([*words[:-1], words[-1].removesuffix("s")])


def leading(text: str) -> str:
    """Find the unit, or the word that changes a number, at the start of prose behind the number; "" for none."""
    found = re.match(r"\s*(\\?%|°[CF]?|[A-Za-zµ°¢/]+(?:\^\d)?(?:[ /][A-Za-z]+){0,2})", text)
    words = found[1].split(" ") if found else []
    for count in range(len(words), 0, -1):
        phrase = " ".join(words[:count])
        parts = re.split(r"[ /]", phrase.lower())
        known = all({part, part.removesuffix("s")} & (CANON.keys() | LINKING) for part in parts)
        if phrase in ("%", "\\%", "percent") or MULTIPLIERS.keys() >= set(parts):
            return phrase
        if known and not {phrase.lower(), phrase.lower().removesuffix("s")} & AMBIGUOUS and unit(phrase):
            return phrase
    return ""


def same_unit(gold: str, answer: str) -> bool:
    """Decide whether two units agree; one that is not written agrees with all."""
    if not gold or not answer or gold == answer or {gold, answer} in ALIKE:
        return True
    return not is_known(gold) and not is_known(answer) and (gold.endswith(f" {answer}") or answer.endswith(f" {gold}"))


def is_known(name: str) -> bool:
    """Tell a unit of measure or of money from a thing that is counted."""
    return any(part.partition("^")[0] in UNITS for part in name.split())
