"""Equations and inequalities: the same up to a factor, or the same set of numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from llmrl.answers.evaluate import free, numbers, same_numbers
from llmrl.answers.forms import NAME, Items, Relation, Union, Value
from llmrl.answers.number import Number
from llmrl.answers.words import Words

FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "=": "=", "\\ne": "\\ne", "\\equiv": "\\equiv"}


def same_relation(gold: Relation, answer: Relation, equal: Callable[[Value, Value], bool]) -> bool:
    """Decide whether two relations are equivalent: side by side, turned round, or one a multiple of the other."""
    if len(gold.sides) != len(answer.sides):
        return False
    for relation in (answer, _turned(answer)):
        if gold.signs == relation.signs and all(map(equal, gold.sides, relation.sides)):
            return True
    if len(gold.sides) != 2 or not all(isinstance(side, Number) for side in (*gold.sides, *answer.sides)):
        return False
    left, right = _difference(gold), _difference(answer)
    if gold.signs[0] == answer.signs[0]:
        wanted = 1
    elif FLIPPED[gold.signs[0]] == answer.signs[0]:
        wanted = -1
    else:
        return False
    factor = _factor(left, right)
    return factor is not None and (gold.signs[0] in ("=", "\\ne") or factor * wanted > 0)


def _turned(relation: Relation) -> Relation:
    signs = tuple(FLIPPED[sign] for sign in reversed(relation.signs))
    return Relation(relation.sides[::-1], signs, relation.texts[::-1])


def _difference(relation: Relation) -> Any:
    return relation.sides[0].tree - relation.sides[1].tree


def _factor(left: Any, right: Any) -> float | None:
    """The constant that `left` is a multiple of `right` by; None where there is none, or no variable in them."""
    if free(left) != free(right) or not free(left):
        return None
    try:
        pairs = [(a, b) for a, b in zip(numbers(left), numbers(right), strict=True) if a is not None and b is not None]
    except (ArithmeticError, ValueError, TypeError):
        return None
    if len(pairs) < 3 or any(abs(b) < 1e-30 or abs(a) < 1e-30 for a, b in pairs):
        return None
    ratios = [a / b for a, b in pairs]
    if any(abs(ratio - ratios[0]) > abs(ratios[0]) * 1e-30 or abs(complex(ratio).imag) > 1e-30 for ratio in ratios):
        return None
    return float(complex(ratios[0]).real)


def region(value: Value) -> Value | None:
    """The set that inequalities of one variable describe, as intervals; a set of intervals itself; else None."""
    if isinstance(value, Union) or (isinstance(value, Items) and value.opening in ("(", "[") and len(value.items) == 2):
        return None if any(isinstance(item, Relation) for item in getattr(value, "items", ())) else value
    if isinstance(value, Relation):
        return _interval(value)
    if isinstance(value, Items) and not value.opening:
        parts = [region(item) for item in value.items]
        if any(part is None for part in parts):
            return None
        if value.joint == "and" and all(isinstance(part, Items) for part in parts):
            return _overlap([part for part in parts if isinstance(part, Items)])
        return Union(tuple(p for part in parts for p in (part.parts if isinstance(part, Union) else (part,))))
    return None


def _interval(relation: Relation) -> Value | None:
    from sympy import oo

    if "\\equiv" in relation.signs:
        return None
    low, high = Number(-oo), Number(oo)
    sides, signs, texts = relation.sides, relation.signs, relation.texts
    if signs[0] in (">", "\\ge") or (len(signs) == 1 and not _name(texts[0])):
        relation = _turned(relation)
        sides, signs, texts = relation.sides, relation.signs, relation.texts
    if (
        len(signs) == 1
        and signs[0] != "="
        and _name(texts[0])
        and isinstance(sides[1], Number)
        and not free(sides[1].tree)
    ):
        if signs[0] == "\\ne":
            return Union((Items((low, sides[1]), "(", ")"), Items((sides[1], high), "(", ")")))
        closed = signs[0] in ("\\le", "\\ge")
        if signs[0] in ("<", "\\le"):
            return Items((low, sides[1]), "(", "]" if closed else ")")
        return Items((sides[1], high), "[" if closed else "(", ")")
    if len(signs) == 1 and _name(texts[1]) and signs[0] in ("<", "\\le") and isinstance(sides[0], Number):
        return Items((sides[0], high), "[" if signs[0] == "\\le" else "(", ")")
    if len(signs) == 2 and _name(texts[1]) and set(signs) <= {"<", "\\le"}:
        return Items((sides[0], sides[2]), "[" if signs[0] == "\\le" else "(", "]" if signs[1] == "\\le" else ")")
    return None


def _name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def _overlap(parts: list[Items]) -> Items | None:
    """Intersection of intervals that must all hold: `x > 1 and x < 3`."""
    from sympy import oo

    low = [part for part in parts if part.items[0].tree != -oo]
    high = [part for part in parts if part.items[1].tree != oo]
    if len(low) != 1 or len(high) != 1:
        return None
    return Items((low[0].items[0], high[0].items[1]), low[0].opening, high[0].closing)


def merged(value: Value) -> list[Items] | None:
    """The intervals of a union, those joined that touch or overlap; None where one has no ends to compare."""
    if isinstance(value, Union) and value.sign != "\\cup":
        return _without_points(value)
    parts = value.parts if isinstance(value, Union) else (value,)
    spans: list[tuple[float, Items]] = []
    for part in parts:
        points = part.items if isinstance(part, Items) and (part.opening, part.closing) == ("{", "}") else ()
        closed = [Items((point, point), "[", "]") for point in points]
        for span in closed or [part]:
            low = _ends(span)
            if low is None:
                return None
            spans.append((low, span))
    spans.sort(key=lambda span: (span[0], span[1].opening != "["))
    joined: list[Items] = []
    for _, span in spans:
        last = joined.pop() if joined else None
        joined += [span] if last is None else _joined(last, span)
    return joined


def _without_points(value: Union) -> list[Items] | None:
    """The intervals that the real numbers without a few points are; None for another difference of sets."""
    from sympy import oo

    first, *others = value.parts
    if not isinstance(first, Words) or first.text != "all real numbers" or len(others) != 1:
        return None
    points = others[0].items if isinstance(others[0], Items) and others[0].opening == "{" else ()
    if not points or any(_real(point) is None for point in points):
        return None
    ends = [Number(-oo), *sorted(points, key=lambda point: _real(point) or 0.0), Number(oo)]
    return [Items(pair, "(", ")") for pair in pairwise(ends)]


def _ends(span: Value) -> float | None:
    """The lower end of an interval; None where the value is no interval, or an end is no real number."""
    if not isinstance(span, Items) or span.opening not in ("(", "[") or len(span.items) != 2:
        return None
    ends = [_real(end) for end in span.items]
    return ends[0] if None not in ends else None


def _real(value: Value) -> float | None:
    from sympy import oo

    if not isinstance(value, Number) or value.unit or value.percent or free(value.tree):
        return None
    if value.tree in (oo, -oo):
        return float("inf") if value.tree == oo else float("-inf")
    try:
        found = complex(numbers(value.tree)[0])
    except (ArithmeticError, ValueError, TypeError):
        return None
    return found.real if abs(found.imag) <= 1e-30 * abs(found) else None


def _joined(first: Items, second: Items) -> list[Items]:
    """Two intervals, in order, as one where they touch or overlap."""
    (low, high), (begin, end) = first.items, second.items
    touch = same_numbers(high.tree, begin.tree)
    if not touch and (_real(begin) or 0.0) > (_real(high) or 0.0):
        return [first, second]
    if touch and first.closing != "]" and second.opening != "[":
        return [first, second]
    if same_numbers(end.tree, high.tree):
        return [Items((low, high), first.opening, "]" if "]" in (first.closing, second.closing) else ")")]
    last = second if (_real(end) or 0.0) > (_real(high) or 0.0) else first
    return [Items((low, last.items[1]), first.opening, last.closing)]


__all__ = ["merged", "region", "same_numbers", "same_relation"]
