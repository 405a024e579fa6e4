"""Parse an answer's normalised LaTeX: a number, a list, an interval, a relation, a matrix or words."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from llmrl.answers.blocks import BLOCK, block, flat
from llmrl.answers.evaluate import free, numbers, same_numbers
from llmrl.answers.forms import NAME, Based, Items, Matrix, Relation, Union, Value
from llmrl.answers.normalise import clean, closing
from llmrl.answers.number import Number, number
from llmrl.answers.solutions import solutions
from llmrl.answers.words import WRAPPED, Words, unwrapped, words

SIGN = re.compile(r"\\(?:le|ge|ne|in|approx|equiv|sim|cong|simeq)(?![a-zA-Z])|=|<|>")
MODULUS = re.compile(r"\s*\(?\s*(?:\\text\s*\{\s*mod\s*\}|\\?[pb]?mod(?![a-z])).+$")
MULTIPLE = re.compile(r"\d+\s?[a-zA-Z]")  # 3x = 4 modulo 5 says nothing of x
POINT = re.compile(r"[A-MO-TV-Z](?:_\{?\d\}?|'{1,2})?(?=\s?\()")
AND = re.compile(
    r"\\(?:text|mbox|mathrm|textrm)\s*\{\s*(and|or|,)\s*\}|\\(?:land|wedge|lor|vee)(?![a-zA-Z])|(?<![a-zA-Z\\{])(and|or)(?![a-zA-Z])"
)
THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!,?\d)|(?<![\d.,}])\d{1,3}(?: \d{3})+(?! ?\d)")
COMMA = re.compile(r"[,;]|\\\\")
BUILDER = re.compile(r"[a-z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?[|:](?=.*[<>=\\])")
CUP = re.compile(r"\\(?:cup|setminus)(?![a-zA-Z])|(?<=[)\]])\s*-\s*(?=\\\{)")
BASED = re.compile(r"\(?\s*([0-9A-Fa-f]+(?:\.[0-9A-F]+)?)\s*\)?\s*_\s*\{?\s*\(?\s*(\d{1,2}|[a-z]+)\s*\)?\s*\}?")
BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
}  # fmt: skip


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
        digits = based[1].upper() if base == 16 and len(based[1]) > 1 else based[1]
        if base > 1 and not re.search("[a-f]", digits) and re.search(r"\d" if base <= 10 else r"[\dA-F]", digits):
            return Based(digits.lstrip("0") or "0", base)
    parts, signs = split(text, CUP)
    if len(parts) > 1 and all(parts):
        return Union(tuple(value(part) for part in parts), signs[0] if "setminus" in signs[0] else "\\cup")
    return _listed(text)


def _joined(match: re.Match[str], text: str) -> str:
    """Remove separators between digits, but not of a number alone in brackets: (1,234) is a pair."""
    before, after = text[: match.start()].rstrip(), text[match.end() :].lstrip()
    if "," in match[0] and before.endswith(("(", "[", "\\{")) and after.startswith((")", "]", "\\}")):
        return match[0]
    return match[0].replace(",", "").replace(" ", "")


def split(text: str, pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The parts between matches of `pattern` that stand in no bracket and no block, and those matches."""
    parts, signs, start, depth, place = [], [], 0, 0, 0
    skipped = {found.start(): found.end() for found in BLOCK.finditer(text)} if r"\begin" in text else {}
    while place < len(text):
        if place in skipped:
            place = skipped[place]
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
        return Items(solutions(flat([value(item) for item in items])), joint=joint)
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
    return flat([value(part) for joined in split(text, AND)[0] for part in split(joined, COMMA)[0] if part])


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
    if signs[-1] == "\\equiv" and (modulus := MODULUS.search(texts[-1])) and not MULTIPLE.match(texts[0]):
        result = texts[-1][: modulus.start()]
        return Relation((Words(f"{texts[0]} {modulus[0]}"), value(result)), ("\\equiv",), (texts[0], result))
    if any(sign in ("\\equiv", "\\sim", "\\cong", "\\in") for sign in signs):
        return Words(text)
    if signs in (["<"], ["\\le"]) and (inside := re.fullmatch(r"\|\s*([a-z])\s*\|", texts[0])):
        texts, signs = [f"-({texts[1]})", inside[1], texts[1]], signs * 2
    if signs in ([">"], ["\\ge"]) and (inside := re.fullmatch(r"\|\s*([a-z])\s*\|", texts[0])):
        turned = {">": "<", "\\ge": "\\le "}[signs[0]]
        return _listed(rf"{inside[1]}{turned}-({texts[1]}) \text{{or}} {inside[1]}{signs[0]} {texts[1]}")
    if len(signs) > 1 and set(signs) == {"="}:
        if _contradictory([value(side) for side in texts[1:]]):
            return Words(text)
        texts, signs = [texts[0], texts[-1]], ["="]
    return _each_sign(texts, signs)


def _contradictory(sides: list[Value]) -> bool:
    """Tell whether two sides are numbers that differ, as in `x = 7 = 5`; a rounded one after the exact one does not.

    Percents are numbers, too; sides in two units are not compared.
    """
    known = [side for side in sides if isinstance(side, Number) and not free(side.tree)]
    return any(
        not same_numbers(_plain(one), _plain(other)) and not _rounds(one, other)
        for one, other in pairwise(known)
        if one.unit == other.unit or not (one.unit and other.unit)
    )


def _plain(number: Number) -> Any:
    """The tree of a number without its percent sign."""
    return number.tree / 100 if number.percent else number.tree


def _rounds(exact: Number, decimal: Number) -> bool:
    places = [None if side.places is None else side.places + 2 * side.percent for side in (exact, decimal)]
    if decimal.percent and places[1] is None and decimal.tree.is_Integer:
        places[1] = 2
    if places[1] is None or (places[0] is not None and places[0] <= places[1]):
        return False
    try:
        gap = abs(complex(numbers(_plain(exact) - _plain(decimal))[0]))
    except (ArithmeticError, ValueError):
        return False
    return gap <= 0.5000001 * 10.0 ** -places[1]


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
    if r"\begin" in text and (found := block(text, value)) is not None:
        return found
    if "\\pm" in text or "\\mp" in text:
        plus = text.replace("\\pm", "+").replace("\\mp", "-")
        minus = text.replace("\\pm", "-").replace("\\mp", "+")
        return Items((value(plus.lstrip(" +")), value(minus)))
    point = POINT.match(text)
    if point and closing(text, at := text.index("(")) == len(text) - 1 and len(split(text[at + 1 : -1], COMMA)[0]) > 1:
        return _related(f"{point[0]}={text[at:]}")  # P(3, 5)
    if ":" in text:
        parts = _ratio([part.strip() for part in text.split(":")])
        return Items(parts, ":", ":") if parts else Words(text)
    parsed = number(text)
    return Words(text) if parsed is None else parsed


def _ratio(texts: list[str]) -> tuple[Number, ...]:
    """The parts of a ratio; empty where one is no plain number or letter. 12:05 is a time."""
    if not all(texts) or re.fullmatch(r"0\d", texts[-1]):
        return ()
    parts = [number(text) for text in texts]
    fitting = [part for part in parts if part and not part.unit and not part.percent]
    return tuple(fitting) if len(fitting) == len(texts) else ()


__all__ = ["Based", "Items", "Matrix", "Number", "Relation", "Union", "Value", "Words", "read"]
