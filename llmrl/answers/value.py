"""Parse an answer's normalised LaTeX: a number, a list, an interval, a relation, a matrix or words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from llmrl.answers.normalise import clean, closing
from llmrl.answers.number import Number, number
from llmrl.answers.words import WRAPPED, Words, unwrapped, words

GREEK = r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|theta|lambda|mu|phi|varphi|psi|omega|sigma|rho|tau)"
SUB = r"(?:\s*_\s*(?:\{[^{}]*\}|\w))?"
NAME = re.compile(
    rf"""\s*(?:\d*\\(?:angle|triangle|odot|measuredangle)\s*[A-Z]*{SUB}
        |m?\\angle\s*[A-Z]+ | (?:[a-zA-Z]|{GREEK}){SUB}'*\s*(?:\([^()=]*\))?
        |\\(?:overline|text|mathrm|textbf|overrightarrow)\s*\{{[^{{}}]*\}}{SUB}(?:\([^()=]*\))?
        |[A-Z]{{2,4}}|\[[A-Z]+\]|\|[A-Z]+\||[a-z]{{2}} |\\frac\{{[A-Z]{{1,3}}\}}\{{[A-Z]{{1,3}}\}}|[A-Z]{{2}}/[A-Z]{{2}}
        |\\(?:sin|cos|tan)\s*\(?(?:[a-zA-Z]|{GREEK}|\\angle\s*[A-Z]+)\)? |(?:[Aa]rea|[Pp]erimeter|[Vv]olume|[Aa]nswer)
        |\\frac\{{d[a-z]?\}}\{{d[a-z]\}}|\\frac\{{dy\}}\{{dx\}})\s*""",
    re.VERBOSE,
)
SIGN = re.compile(r"\\(?:le|ge|ne|in|approx|equiv|sim|cong|simeq)(?![a-zA-Z])|=|<|>")
AND = re.compile(
    r"\\(?:text|mbox|mathrm|textrm)\s*\{\s*(and|or|,)\s*\}|\\(?:land|wedge|lor|vee)(?![a-zA-Z])|(?<![a-zA-Z\\{])(and|or)(?![a-zA-Z])"
)
THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!,?\d)|(?<![\d.,}])\d{1,3}(?: \d{3})+(?! ?\d)")
COMMA = re.compile(r"[,;]|\\\\")
BUILDER = re.compile(r"[a-z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?[|:](?=.*[<>=\\])")
CUP = re.compile(r"\\(?:cup|setminus)(?![a-zA-Z])|(?<=[)\]])\s*-\s*(?=\\\{)")


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


@dataclass(frozen=True)
class Matrix:
    """Rows of a matrix or a determinant."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Based:
    """Digits in another base."""

    digits: str
    base: int


Value = Any  # Items | Union | Relation | Matrix | Based | Number | Words
BASED = re.compile(r"\(?\s*([0-9A-F]+(?:\.[0-9A-F]+)?)\s*\)?\s*_\s*\{?\s*(\d{1,2}|[a-z]+)\s*\}?")
BASES = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "twelve": 12,
}


def read(text: str) -> Value | None:
    """Parse an answer; None for an empty one. Text that is no mathematics becomes `Words`."""
    return value(clean(text)) if clean(text) else None


def value(text: str) -> Value:
    """Parse normalised LaTeX."""
    text = text.strip()
    while text.startswith("{") and closing(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    if (known := words(text)) is not None:
        return known
    if wrapper := WRAPPED.fullmatch(text):
        return value(wrapper[1])
    if r"\text" in text and re.fullmatch(r"[A-Za-z' ]+(?:,[A-Za-z' ]+)+", bare := unwrapped(text)):
        text = bare
    text = THOUSANDS.sub(lambda match: _joined(match, text), text)
    if based := BASED.fullmatch(unwrapped(text)):
        base = BASES.get(based[2]) or (int(based[2]) if based[2].isdigit() else 0)
        if base > 10 or (base > 1 and re.search(r"\d", based[1])):
            return Based(based[1].lstrip("0") or "0", base)
    parts, signs = split(text, CUP)
    if len(parts) > 1 and all(parts):
        return Union(tuple(value(part) for part in parts), signs[0] if "setminus" in signs[0] else "\\cup")
    if matrix := re.fullmatch(r"\\begin\{matrix\}(.*?)\\end\{matrix\}", text, re.DOTALL):
        rows = [row for row in matrix[1].split(r"\\") if row.strip()]
        return Matrix(tuple(tuple(value(cell) for cell in row.split("&")) for row in rows))
    return _listed(text)


def _joined(match: re.Match[str], text: str) -> str:
    """Remove separators between digits, but not of a number alone in brackets: (1,234) is a pair."""
    before, after = text[: match.start()].rstrip(), text[match.end() :].lstrip()
    if "," in match[0] and before.endswith(("(", "[", "\\{")) and after.startswith((")", "]", "\\}")):
        return match[0]
    return match[0].replace(",", "").replace(" ", "")


def split(text: str, pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The parts between matches of `pattern` that stand in no bracket, and those matches."""
    parts, signs, start, depth, place = [], [], 0, 0, 0
    if r"\begin" in text:
        depth_marks = [
            (m.start(), m.end()) for m in re.finditer(r"\\begin\{matrix\}.*?\\end\{matrix\}", text, re.DOTALL)
        ]
    else:
        depth_marks = []
    while place < len(text):
        skip = next((end for begin, end in depth_marks if begin <= place < end), None)
        if skip is not None:
            place = skip
            continue
        depth += (text[place] in "([{") - (text[place] in ")]}")
        match = pattern.match(text, place) if depth == 0 and text[place] not in ")]}" else None
        if match and match.end() > place:
            parts.append(text[start:place].strip())
            signs.append(match[0])
            start = place = match.end()
        else:
            place += 2 if text[place] == "\\" and text[place + 1 : place + 2] not in tuple("([{)]}") else 1
    return [*parts, text[start:].strip()], signs


def _listed(text: str) -> Value:
    parts, joints = split(text, AND)
    joint = "and" if any("and" in joint or "land" in joint for joint in joints) else ","
    items = [item for part in parts for item in split(part, COMMA)[0] if item]
    if len(items) > 1:
        return Items(_flat(value(item) for item in items), joint=joint)
    if not items:
        return Words(text)
    text = items[0]
    if text.startswith("\\{") and text.endswith("\\}") and closing(text, 1) == len(text) - 1:
        inner = text[2:-2].strip()
        if builder := BUILDER.match(inner):
            return value(inner[builder.end() :])
        return Items(_elements(inner), "{", "}") if inner else words(r"\emptyset")
    if text[0] in "([" and closing(text, 0) == len(text) - 1:
        if len(split(text[1:-1], COMMA)[0]) > 1:
            return Items(_elements(text[1:-1]), text[0], text[-1])
        return value(text[1:-1])
    return _related(text)


def _elements(text: str) -> tuple[Value, ...]:
    return _flat(value(part) for joined in split(text, AND)[0] for part in split(joined, COMMA)[0] if part)


def _flat(values: Any) -> tuple[Value, ...]:
    """Flatten lists without brackets inside a list, such as the two values of a plus-minus."""
    flat: list[Value] = []
    for item in values:
        flat += item.items if isinstance(item, Items) and not item.opening else [item]
    return tuple(flat)


def _related(text: str) -> Value:
    texts, signs = split(text, SIGN)
    if len(texts) == 1:
        return _single(text)
    if not texts[0] and signs[0].strip() in ("=", r"\approx"):  # "= 5", which "> 5" is not
        return value(text[len(signs[0]) :])
    if not all(texts):
        return Words(text)
    signs = [sign.strip() for sign in signs]
    if "\\approx" in signs or "\\simeq" in signs:
        cut = next(i for i, sign in enumerate(signs) if sign in ("\\approx", "\\simeq"))
        if cut or not NAME.fullmatch(texts[0]):
            kept = sum(len(t) for t in texts[: cut + 1])
            return _related(text[: _place(text, texts, cut)]) if kept else Words(text)
        signs[cut] = "="
    if signs == ["\\in"] and NAME.fullmatch(texts[0]):
        return value(texts[1])
    if any(sign in ("\\equiv", "\\sim", "\\cong", "\\in") for sign in signs):
        return Words(text)
    if signs in (["<"], ["\\le"]) and (inside := re.fullmatch(r"\|\s*([a-z])\s*\|", texts[0])):
        texts, signs = [f"-({texts[1]})", inside[1], texts[1]], signs * 2
    if len(signs) > 1 and set(signs) == {"="}:
        texts, signs = [texts[0], texts[-1]], ["="]
    return _each_sign(texts, signs)


def _place(text: str, texts: list[str], count: int) -> int:
    """Index at which part number `count` ends in the text."""
    place = 0
    for part in texts[: count + 1]:
        place = text.index(part, place) + len(part)
    return place


def _each_sign(texts: list[str], signs: list[str]) -> Value:
    """The relation; two of them where its last side has a plus-minus."""
    last = value(texts[-1])
    firsts = [value(side) for side in texts[:-1]]
    if isinstance(last, Items) and not last.opening and "\\pm" in texts[-1]:
        return Items(tuple(Relation((*firsts, item), tuple(signs), (*texts[:-1], "")) for item in last.items))
    return Relation((*firsts, last), tuple(signs), tuple(texts))


def _single(text: str) -> Value:
    if "\\pm" in text or "\\mp" in text:
        plus = text.replace("\\pm", "+").replace("\\mp", "-")
        minus = text.replace("\\pm", "-").replace("\\mp", "+")
        return Items((value(plus.lstrip(" +")), value(minus)))
    ratio = [part.strip() for part in text.split(":")]
    if len(ratio) > 1 and all(
        re.fullmatch(r"\d+(?:\.\d+)?|[a-z]|\\frac\{\d+\}\{\d+\}|\\sqrt\{\d+\}", part) for part in ratio
    ):
        return Items(tuple(value(part) for part in ratio), ":", ":")
    parsed = number(text)
    return Words(text) if parsed is None else parsed


__all__ = ["Based", "Items", "Matrix", "Number", "Relation", "Union", "Value", "Words", "read"]
