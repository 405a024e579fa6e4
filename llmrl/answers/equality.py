"""Compare two answers. In doubt they differ: rewarding a wrong answer does more harm than missing a right one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llmrl.answers.evaluate import free, numbers, same_numbers
from llmrl.answers.normalise import clean
from llmrl.answers.number import Number
from llmrl.answers.relations import region, same_relation
from llmrl.answers.value import NAME, Based, Items, Matrix, Relation, Union, Value, Words
from llmrl.answers.words import choice, plain

ENOUGH = 6  # digits of a decimal that stands for an exact number; 0.333 is not a third


def equal(gold: Value, answer: Value) -> bool:
    """Decide whether the answer equals the reference. Not symmetric: a unit that the reference lacks is ignored."""
    gold, answer = _single(gold), _single(answer)
    if isinstance(gold, Words) or isinstance(answer, Words):
        return _same_words(gold, answer)
    if _relational(gold) or _relational(answer):
        return _related(gold, answer)
    if isinstance(gold, Based) or isinstance(answer, Based):
        return _same_base(gold, answer)
    if isinstance(gold, Number) and isinstance(answer, Number):
        return same_number(gold, answer)
    if isinstance(gold, Union) and isinstance(answer, Union):
        return gold.sign == answer.sign and _matched(gold.parts, answer.parts)
    return _collected(gold, answer)


def _single(value: Value) -> Value:
    """Remove the brackets around a single value; (-oo, oo) becomes "all real numbers"."""
    if isinstance(value, Items) and (value.opening, value.closing) == ("(", ")") and len(value.items) == 2:
        low, high = value.items
        if isinstance(low, Number) and isinstance(high, Number) and (str(low.tree), str(high.tree)) == ("-oo", "oo"):
            return Words("all real numbers")
    return _single(value.items[0]) if isinstance(value, Items) and len(value.items) == 1 else value


def _same_words(gold: Value, answer: Value) -> bool:
    left, right = _word(gold), _word(answer)
    return bool(left) and left == right


def _word(value: Value) -> str:
    """Normal form of words, or the letter of a lone capital; else empty."""
    if isinstance(value, Words):
        return value.plain
    letter = isinstance(value, Number) and value.tree.is_Symbol and str(value.tree)
    return letter.lower() if letter and re.fullmatch("[A-Z]", letter) else ""


def same_text(gold: str, answer: str) -> bool:
    """Decide whether two texts are the same but for spelling, or name the same choice."""
    left, right = (re.sub(r"\s+", "", clean(text)) for text in (gold, answer))
    if left == right and left:
        return True
    letter = choice(gold)
    return letter is not None and letter == choice(answer)


def _same_base(gold: Value, answer: Value) -> bool:
    if isinstance(gold, Based) and isinstance(answer, Based):
        return gold == answer
    if isinstance(gold, Based) and isinstance(answer, Number) and gold.digits.isdigit():  # the question named the base
        return not answer.unit and bool(answer.tree.is_Integer) and int(answer.tree) == int(gold.digits)
    return False


def same_number(gold: Number, answer: Number) -> bool:
    """Compare the values and, where both have one, the units; a decimal may round an exact number to six digits."""
    if gold.unit != answer.unit and (free(gold.tree) or free(answer.tree)):
        return same_numbers(_with_letter(gold, answer), _with_letter(answer, gold))
    if not _same_unit(gold.unit, answer.unit):
        return False
    if gold.percent != answer.percent:
        part, whole = (gold, answer) if gold.percent else (answer, gold)
        if same_numbers(part.tree / 100, whole.tree):
            return True
        constant = not free(whole.tree) and not free(part.tree)
        return constant and abs(complex(numbers(whole.tree)[0])) > 1 and same_numbers(part.tree, whole.tree)
    return same_numbers(gold.tree, answer.tree) or _rounded(gold, answer) or _rounded(answer, gold)


def _with_letter(number: Number, other: Number) -> Any:
    """The tree times its unit where the other holds that letter as a variable: 5 m against 5m."""
    from sympy import Symbol

    letters = [name for name in free(other.tree) if name.lower() == number.unit]
    return number.tree * Symbol(letters[0]) if letters else number.tree


def _same_unit(gold: str, answer: str) -> bool:
    if not gold or not answer or gold == answer or ("degree" in (gold, answer) and {gold, answer} & {"c", "f", "k"}):
        return True
    power = (gold.rpartition("^")[2] if "^" in gold else "", answer.rpartition("^")[2] if "^" in answer else "")
    return power[0] == power[1] and bool(
        set(re.split(r"\W+", gold)) & set(re.split(r"\W+", answer)) - {"per", "of", power[0]}
    )


def _rounded(decimal: Number, exact: Number) -> bool:
    if (
        decimal.places is None
        or decimal.significant < ENOUGH
        or (exact.places is not None and exact.places <= decimal.places)
    ):
        return False
    if free(exact.tree) or exact.tree.is_Integer:
        return False
    try:
        gap = abs(complex(numbers(exact.tree - decimal.tree)[0]))
    except (ArithmeticError, ValueError):
        return False
    return gap <= 0.5000001 * 10.0**-decimal.places or gap <= 1e-12 * abs(float(decimal.tree))


def _matched(golds: Sequence[Value], answers: Sequence[Value]) -> bool:
    """Pair each reference value with an equal answer, in any order; False where one is left over."""
    rest = list(answers)
    if len(golds) != len(rest):
        return False
    for gold in golds:
        partner = next((i for i, answer in enumerate(rest) if equal(gold, answer)), None)
        if partner is None:
            return False
        del rest[partner]
    return True


def _in_order(golds: Sequence[Value], answers: Sequence[Value]) -> bool:
    return len(golds) == len(answers) and all(equal(g, a) for g, a in zip(golds, answers, strict=True))


def _collected(gold: Value, answer: Value) -> bool:
    """Compare lists, sets, tuples, intervals, ratios and matrices."""
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        return len(gold.rows) == len(answer.rows) and all(map(_in_order, gold.rows, answer.rows))
    gold, answer = _vector(gold), _vector(answer)
    if isinstance(answer, Items) and not isinstance(gold, Items) and not answer.opening:  # one value written twice
        return all(equal(gold, item) for item in answer.items)
    if _ratio(gold) or _ratio(answer):
        return _same_ratio(gold, answer)
    if not isinstance(gold, Items) or not isinstance(answer, Items):
        return False
    ordered = [items.opening in ("(", "[") for items in (gold, answer)]
    if all(ordered):
        same = (gold.opening, gold.closing) == (answer.opening, answer.closing)
        return (same or len(gold.items) > 2) and _in_order(gold.items, answer.items)
    if any(ordered):
        return "{" not in (gold.opening, answer.opening) and _in_order(gold.items, answer.items)
    if "{" in (gold.opening, answer.opening):
        return _matched(_distinct(gold.items), _distinct(answer.items))
    return _matched(gold.items, answer.items)


def _distinct(values: Sequence[Value]) -> list[Value]:
    distinct: list[Value] = []
    for value in values:
        if not any(equal(value, other) for other in distinct):
            distinct.append(value)
    return distinct


def _vector(value: Value) -> Value:
    """Turn a matrix of one row or one column into an ordered list."""
    if isinstance(value, Matrix) and (len(value.rows) == 1 or all(len(row) == 1 for row in value.rows)):
        return Items(tuple(cell for row in value.rows for cell in row), "(", ")")
    return value


def _ratio(value: Value) -> bool:
    return isinstance(value, Items) and value.opening == ":"


def _same_ratio(gold: Value, answer: Value) -> bool:
    """3:1 is 6:2 and, of two numbers, also their quotient."""
    sides = []
    for value in (gold, answer):
        if isinstance(value, Number):
            value = Items((value, Number(value.tree / value.tree)), ":", ":")
        if not _ratio(value) or not all(isinstance(item, Number) and item.tree != 0 for item in value.items):
            return False
        sides.append([item.tree / value.items[-1].tree for item in value.items])
    return len(sides[0]) == len(sides[1]) and all(same_numbers(a, b) for a, b in zip(*sides, strict=True))


def _relational(value: Value) -> bool:
    return isinstance(value, Relation) or (isinstance(value, Items) and any(_relational(item) for item in value.items))


def _related(gold: Value, answer: Value) -> bool:
    """Compare two values of which at least one holds a relation."""
    if isinstance(gold, Relation) and isinstance(answer, Relation) and same_relation(gold, answer, equal):
        return True
    left, right = region(gold), region(answer)
    if left is not None and right is not None and not (_relational(left) or _relational(right)):
        return equal(left, right)
    gold, answer = _spread(gold), _spread(answer)
    if isinstance(gold, Items) and isinstance(answer, Items) and _relational(gold) and _relational(answer):
        return _matched(gold.items, answer.items)
    if _relational(gold) and _relational(answer):
        return False
    named, bare = (gold, answer) if _relational(gold) else (answer, gold)
    values = _assigned(named)
    if values is None:
        return False
    if isinstance(named, Relation):
        return equal(values[0], bare) if named is gold else equal(bare, values[0])
    if not isinstance(bare, Items):
        return False
    same_name = len({re.sub(r"_.*", "", relation.texts[0]) for relation in named.items}) == 1
    match = _matched if same_name and bare.opening in ("", "{") else _in_order
    return match(values, bare.items) if named is gold else match(bare.items, values)


def _spread(value: Value) -> Value:
    """Rewrite `(x, y) = (1, 2)` as `x = 1, y = 2`."""
    if not isinstance(value, Relation) or value.signs != ("=",):
        return value
    names, values = value.sides
    if not isinstance(names, Items) or not isinstance(values, Items) or len(names.items) != len(values.items):
        return value
    texts = [part.strip() for part in value.texts[0].strip(" ()").split(",")]
    if len(texts) != len(names.items) or not all(NAME.fullmatch(text) for text in texts):
        return value
    triples = zip(names.items, values.items, texts, strict=True)
    return Items(tuple(Relation((name, item), ("=",), (text, "")) for name, item, text in triples))


def _assigned(named: Value) -> list[Value] | None:
    """Values on the right of `name = value`, or of a list of such; None for another kind of relation."""
    relations = [named] if isinstance(named, Relation) else list(named.items)
    if not all(isinstance(relation, Relation) and _gives(relation) for relation in relations):
        return None
    return [relation.sides[-1] for relation in relations]


def _gives(relation: Relation) -> bool:
    """Recognise `x = 5`, or a true calculation such as `2 + 3 = 5`."""
    if relation.signs != ("=",):
        return False
    first, last = relation.sides
    true = isinstance(first, Number) and isinstance(last, Number) and not free(first.tree) and same_number(first, last)
    return true or NAME.fullmatch(relation.texts[0]) is not None


__all__ = ["equal", "plain", "same_text"]
