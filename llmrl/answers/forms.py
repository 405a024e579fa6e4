"""The kinds of values that an answer can be, beside numbers and words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Value = Any  # Items | Union | Relation | Matrix | Based | Number | Words

GREEK = r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|theta|lambda|mu|phi|varphi|psi|omega|sigma|rho|tau)"
SUB = r"(?:\s*_\s*(?:\{[^{}]*\}|\w))?"
NAME = re.compile(
    rf"""\s*(?:\d*\\(?:angle|triangle|odot|measuredangle)\s*[A-Z]*{SUB}
        |m?\\angle\s*[A-Z]+ | ([a-zA-Z]|{GREEK}){SUB}'*\s*(?:\((?![^()=]*\1)[^()=]*\))?
        |\\(?:overline|text|mathrm|textbf|overrightarrow)\s*\{{[^{{}}]*\}}{SUB}(?:\([^()=]*\)|\s?(?:\\triangle\s?)?[A-Z]{{1,5}})?
        |[A-Z]{{2,4}}|\[[A-Z]+\]|\|[A-Z]+\||[a-z]{{2}} |\\frac\{{[A-Z]{{1,3}}\}}\{{[A-Z]{{1,3}}\}}|[A-Z]{{2}}/[A-Z]{{2}}
        |\\(?:sin|cos|tan)\s*\(?(?:[a-zA-Z]|{GREEK}|\\angle\s*[A-Z]+)\)? |(?:[Aa]rea|[Pp]erimeter|[Vv]olume|[Aa]nswer)
        |\\frac\{{d[a-z]?\}}\{{d[a-z]\}}|\\frac\{{dy\}}\{{dx\}})\s*""",
    re.VERBOSE,
)
CALLED = re.compile(
    rf"""\s*(?:(?:[a-zA-Z]{SUB}|[A-Z]{{2,3}})(?:\s*:\s*(?:[a-zA-Z]{SUB}|[A-Z]{{2,3}}))+
        |\|\s*\{{\s*[a-zA-Z]\s*\}}\s*\||\\\|[^=|]{{1,30}}\\\||\|\s*[A-Z](?:\s?\\c[au]p\s?[A-Z])*\s*\|
        |(?:[fghFGHPEN]|[a-z]\^\{{-1\}}|\([a-z]\s?\\circ\s?[a-z]\)|\\mathbb\s?\{{?[EP]\}}?
            |\\(?!sqrt|ln|log|exp|frac)[a-zA-Z]+)\s?[(\[].{{1,60}}[)\]])\s*""",
    re.VERBOSE,
)
"""A ratio of names, the length of a vector, a function of a function, a probability: what an equation gives a value."""
_LETTER = rf"(?:\{{\s?[a-zA-Z]\s?\}}|[a-zA-Z]|{GREEK}){SUB}"
COMBINED = re.compile(
    rf"\s*{_LETTER}(?:\s?(?:[-+/]|\\cdot|\\times)\s?{_LETTER})+\s*|\s*\\frac\{{{_LETTER}\}}\{{{_LETTER}\}}\s*"
)
"""Letters alone, put together: a question asks for `m + n`, and `m + n = 7` answers it; `x + 2 = 7` answers none."""
FUNCTION = re.compile(r"\s*[fghFGHpqPQ]\s*\(\s*([a-zA-Z])\s*\)\s*")
WITHOUT_VALUE = re.compile(
    r"\\(?:lim|sum|prod|int|oint|iint|det|bmod|pmod|mod|gcd|lcm|Pr|max|min|sup|inf|deg|dim|arg|operatorname|binom|begin)"
    r"(?![a-zA-Z])|(?<![a-zA-Z])(?:lim|gcd|lcm|mod|det)(?![a-zA-Z])"
)


@dataclass(frozen=True)
class Items:
    """Several values: ordered in round or square brackets, unordered in braces (`{`) or in none (``)."""

    items: tuple[Value, ...]
    opening: str = ""
    closing: str = ""
    joint: str = ","  # `and` where that word stood between them


@dataclass(frozen=True)
class Union:
    """Sets put together, or for `\\setminus` the first without the second."""

    parts: tuple[Value, ...]
    sign: str = "\\cup"


@dataclass(frozen=True)
class Relation:
    """`sides` with `signs` between them; `texts` is how the sides were written."""

    sides: tuple[Value, ...]
    signs: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name to which the relation gives a value, without blanks; "" where it is of another kind."""
        named = self.signs == ("=",) and NAME.fullmatch(self.texts[0])
        return re.sub(r"\s", "", self.texts[0]) if named else ""


@dataclass(frozen=True)
class Matrix:
    """Rows of a matrix."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Based:
    """Digits in another base."""

    digits: str
    base: int
