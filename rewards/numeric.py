"""The last number of the answer against the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

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


@lru_cache(maxsize=4096)
def last_number(text: str) -> Fraction | None:
    """The last number in a text, exactly; None where there is none.

    Reads signs, thousands separators, decimals, `3/4`, `\\frac{3}{4}`, `1e-3` and currency signs; a percent sign is
    ignored. Where a line starts with `####`, that line alone is read.
    """
    marked = MARKED.findall(text)
    plain = FRACTION.sub(lambda match: f"{match[1]}/{match[2]}", marked[-1] if marked else text)
    plain = re.sub(r"\\!|\{,\}", lambda match: "," if match[0] == "{,}" else "", plain)
    found = list(NUMBER.finditer(plain))
    return _value(found[-1]) if found else None


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

    Raises:
        ValueError: the reference holds no number.
    """

    tolerance: float = 0.0  # how far apart the two may be

    def __call__(self, problem: Problem, text: str) -> Score:
        expected = last_number(problem.answer)
        if expected is None:
            raise ValueError(f"the reference {problem.answer!r} holds no number")
        read = last_number(text)
        if read is None:
            return Score(0.0, "unparsable", reason="no number in the answer")
        right = abs(read - expected) <= Fraction(self.tolerance)
        return Score(
            float(right), "correct" if right else "wrong", reason=f"read {_show(read)}, expected {_show(expected)}"
        )


def _show(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    return str(float(value)) if Fraction(str(float(value))) == value else str(value)


plugin = Numeric
