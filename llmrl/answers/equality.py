"""Compare two answers. In doubt they differ: rewarding a wrong answer does more harm than missing a right one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmrl.answers.evaluate import free, numbers, same_numbers
from llmrl.answers.forms import CALLED, COMBINED, FUNCTION, WITHOUT_VALUE, Based, Items, Matrix, Relation, Union, Value
from llmrl.answers.normalise import clean
from llmrl.answers.number import Number
from llmrl.answers.relations import merged, region, same_relation
from llmrl.answers.solutions import by_name
from llmrl.answers.units import same_unit
from llmrl.answers.words import Words, choice, plain

BLANKS = re.compile(r"(?<![A-Za-z])\s+|\s+(?![A-Za-z])")  # not between letters: y e s is not yes
ENOUGH = 6  # digits of a decimal that stands for an exact number; 0.333 is not a third


def equal(gold: Value, answer: Value) -> bool:
    """Decide whether the answer equals the reference. Not symmetric: a unit that the reference lacks is ignored."""
    gold, answer = _single(gold), _single(answer)
    if isinstance(gold, Words) or isinstance(answer, Words):
        return _same_words(gold, answer)
    if isinstance(answer, Items) and not answer.opening and isinstance(gold, Number | Matrix | Based):  # in two forms
        names = {item.name for item in answer.items if isinstance(item, Relation)}
        return len(names) < 2 and all(equal(gold, item) for item in answer.items)
    if _relational(gold) or _relational(answer):
        return _related(gold, answer)
    if isinstance(gold, Based) or isinstance(answer, Based):
        return _same_base(gold, answer)
    if isinstance(gold, Number) and isinstance(answer, Number):
        return same_number(gold, answer)
    if isinstance(gold, Union) or isinstance(answer, Union):
        return _united(gold, answer)
    return _collected(gold, answer)


def _single(value: Value) -> Value:
    """Remove the brackets around a single value; (-oo, oo) becomes "all real numbers"."""
    if isinstance(value, Items) and (value.opening, value.closing) == ("(", ")") and len(value.items) == 2:
        low, high = value.items
        if isinstance(low, Number) and isinstance(high, Number) and (str(low.tree), str(high.tree)) == ("-oo", "oo"):
            return Words("all real numbers")
    if isinstance(value, Union) and len(intervals := merged(value) or []) == 1:
        return _single(intervals[0])
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
    left, right = (BLANKS.sub("", clean(text)) for text in (gold, answer))
    if left == right and left:
        return True
    letter = choice(gold)
    return letter is not None and letter == choice(answer)


def _same_base(gold: Value, answer: Value) -> bool:
    if isinstance(gold, Based) and isinstance(answer, Based):
        return gold == answer
    if isinstance(gold, Based) and isinstance(answer, Number) and gold.digits.isdigit():  # the question named the base
        return not answer.unit and bool(answer.tree.is_Integer) and int(answer.tree) == int(gold.digits)
    if isinstance(gold, Number) and isinstance(answer, Based) and answer.base == 10:
        return not gold.unit and bool(gold.tree.is_Integer) and str(int(gold.tree)) == answer.digits
    return False


def same_number(gold: Number, answer: Number) -> bool:
    """Compare the values and, where both have one, the units; a decimal may round an exact number to six digits."""
    if gold.unit != answer.unit and (free(gold.tree) or free(answer.tree)):
        return same_numbers(_with_letter(gold, answer), _with_letter(answer, gold))
    if not same_unit(gold.unit, answer.unit):
        return False
    if gold.percent != answer.percent:
        if gold.unit or answer.unit:
            return False
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
    gold, answer = _as_matrix(gold, answer), _as_matrix(answer, gold)
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        return len(gold.rows) == len(answer.rows) and all(map(_in_order, gold.rows, answer.rows))
    gold, answer = _vector(gold), _vector(answer)
    gold, answer = _once(gold), _once(answer)
    if isinstance(answer, Items) and not isinstance(gold, Items) and not answer.opening:
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


def _once(value: Value) -> Value:
    """A list of tuples or relations with each of them once."""
    if not isinstance(value, Items) or value.opening or isinstance(value.items[0], Number | Words):
        return value
    if not all(isinstance(item, Relation) or (isinstance(item, Items) and item.opening) for item in value.items):
        return value
    items = _distinct(value.items)
    return items[0] if len(items) == 1 else replace(value, items=tuple(items))


def _distinct(values: Sequence[Value]) -> list[Value]:
    distinct: list[Value] = []
    for value in values:
        if not any(equal(value, other) for other in distinct):
            distinct.append(value)
    return distinct


def _as_matrix(value: Value, other: Value) -> Value:
    """A list of rows as a matrix, where the other is one."""
    if not isinstance(other, Matrix) or not isinstance(value, Items) or value.opening not in ("(", "["):
        return value
    rows = [row.items for row in value.items if isinstance(row, Items) and row.opening in ("(", "[")]
    return Matrix(tuple(rows)) if len(rows) == len(value.items) and len({len(row) for row in rows}) == 1 else value


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
    gold, answer = _once(gold), _once(answer)
    if isinstance(gold, Relation) and isinstance(answer, Relation) and same_relation(gold, answer, equal):
        return True
    left, right = region(gold), region(answer)
    if left is not None and right is not None and not (_relational(left) or _relational(right)):
        return equal(left, right)
    gold, answer = by_name(gold), by_name(answer)
    if _relational(gold) and _relational(answer):
        if isinstance(gold, Items) and isinstance(answer, Items):
            return _matched(gold.items, answer.items) or _matched_without_numbers(gold, answer)
        if isinstance(gold, Relation) and isinstance(answer, Relation):
            return _same_result(gold, answer)
        named, bare = (gold, answer) if isinstance(gold, Relation) else (answer, gold)
        return bool(named.name) and isinstance(named.sides[1], Items) and equal(named.sides[1], bare)  # of cases
    return _named(gold, answer) if _relational(gold) else _named(answer, gold, turned=True)


def _matched_without_numbers(gold: Items, answer: Items) -> bool:
    """Compare `x_1 = 1, x_2 = 2` with `x = 1, x = 2`: the values of one name, numbered on one side alone."""
    sides = [{item.name if isinstance(item, Relation) else "" for item in items.items} for items in (gold, answer)]
    bases = {name.partition("_")[0] for names in sides for name in names}
    plain = [not any("_" in name for name in names) for names in sides]
    if len(bases) != 1 or "" in bases or plain[0] == plain[1]:
        return False
    return _matched([item.sides[1] for item in gold.items], [item.sides[1] for item in answer.items])


def _named(named: Value, bare: Value, turned: bool = False) -> bool:
    """Compare values with names and values without; `turned`: the named ones are the answer's."""
    if isinstance(named, Items) and all(isinstance(item, Items) for item in named.items):  # several solutions
        solutions = bare.items if isinstance(bare, Items) else ()
        return _matched(solutions, named.items) if turned else _matched(named.items, solutions)
    values = _assigned(named, turned)
    if values is None:
        return False
    if isinstance(named, Relation):
        return equal(bare, values[0]) if turned else equal(values[0], bare)
    if not isinstance(bare, Items):
        return False
    names = [re.sub(r"_.*", "", relation.name) for relation in named.items]
    match = _matched if len(set(names)) == 1 and bare.opening in ("", "{") else _in_order
    if match is _in_order and set(names) <= set("xyz"):
        values = [values[place] for place in sorted(range(len(names)), key=names.__getitem__)]
    return match(bare.items, values) if turned else match(values, bare.items)


def _assigned(named: Value, turned: bool) -> list[Value] | None:
    """Values on the right of `name = value`, or of a list of such; None for another kind of relation."""
    relations = [named] if isinstance(named, Relation) else list(named.items)
    if not all(isinstance(relation, Relation) and _gives(relation, turned) for relation in relations):
        return None
    return [relation.sides[-1] for relation in relations]


def _gives(relation: Relation, turned: bool = False) -> bool:
    """Recognise `x = 5`, `A : B = 2 : 3`, a true calculation such as `2 + 3 = 5`, and one of which nobody knows.

    `turned`: also `m + n = 7`, which may answer a question; as a reference it is an equation.
    """
    if relation.signs == ("\\equiv",):
        return True
    if relation.signs != ("=",):
        return False
    first, last = relation.sides
    if isinstance(first, Number) and not free(first.tree) and isinstance(last, Number):
        try:
            numbers(first.tree)
        except (ArithmeticError, ValueError, TypeError):
            return WITHOUT_VALUE.search(relation.texts[0]) is not None
        return same_number(first, last)
    text = relation.texts[0]
    if turned and COMBINED.fullmatch(text) and isinstance(last, Number) and not free(last.tree):
        return True
    return bool(relation.name or CALLED.fullmatch(text) or WITHOUT_VALUE.search(text))


def _same_result(gold: Relation, answer: Relation) -> bool:
    """Compare `f(x) = 2x` with `y = 2x`, and results of a left side that has no value, such as a limit."""
    if gold.signs != ("=",) or answer.signs != ("=",):
        return False
    left, right = gold.texts[0], answer.texts[0]
    for name, other, value in ((left, right, gold.sides[1]), (right, left, answer.sides[1])):
        function = FUNCTION.fullmatch(name)
        if function and other.strip() == "y" and isinstance(value, Number) and free(value.tree) == {function[1]}:
            return equal(gold.sides[1], answer.sides[1])
    if renamed := _in_the_same_variable(gold, answer):
        return equal(gold.sides[1], renamed)
    hidden = [not relation.name and WITHOUT_VALUE.search(relation.texts[0]) for relation in (gold, answer)]
    return bool(any(hidden)) and _gives(gold) and _gives(answer) and equal(gold.sides[1], answer.sides[1])


def _in_the_same_variable(gold: Relation, answer: Relation) -> Number | None:
    """The right side of `f(t) = t^2` in the variable of `f(x) = ...`; None where that is not the case."""
    from sympy import Symbol

    names, value = (FUNCTION.fullmatch(gold.texts[0]), FUNCTION.fullmatch(answer.texts[0])), answer.sides[1]
    if not (names[0] and names[1]) or gold.name[0] != answer.name[0] or not isinstance(value, Number):
        return None
    if free(value.tree) != {names[1][1]}:
        return None
    symbols = {symbol: Symbol(names[0][1]) for symbol in value.tree.free_symbols if str(symbol) == names[1][1]}
    return replace(value, tree=value.tree.xreplace(symbols))


def _united(gold: Value, answer: Value) -> bool:
    """Compare unions, and a union with a set; intervals that touch or overlap are one."""
    both = isinstance(gold, Union) and isinstance(answer, Union) and gold.sign == answer.sign
    if both and _matched(gold.parts, answer.parts):
        return True
    left, right = merged(gold), merged(answer)
    return left is not None and right is not None and _matched(left, right)


__all__ = ["equal", "plain", "same_text"]
