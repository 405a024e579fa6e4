"""Matrices, their sums and multiples, determinants, and `cases`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

from llmrl.answers.forms import Items, Matrix, Value
from llmrl.answers.number import Number
from llmrl.answers.solutions import solutions
from llmrl.answers.words import Words

BLOCK = re.compile(r"\\begin\{(matrix|cases)\}(.*?)\\end\{\1\}", re.DOTALL)
BRACKETS = re.compile(r"[(\[]\s*(\\begin\{matrix\}(?:(?!\\begin).)*?\\end\{matrix\})\s*[)\]]", re.DOTALL)
BARS = re.compile(r"\|\s*(\\begin\{matrix\}(?:(?!\\begin).)*?\\end\{matrix\})\s*\|", re.DOTALL)
FACTOR = re.compile(r"\s*([-+]?)\s*(.*?)\s*(?:\\cdot|\\times)?\s*", re.DOTALL)
SIGNED = re.compile(r"&\s*(=|<|>|\\(?:le|ge|ne)(?![a-z]))|(=|<|>|\\(?:le|ge|ne)(?![a-z]))\s*&")
TRANSPOSED = re.compile(r"\^\s*\{?\s*(?:T|\\top|\\intercal|\\mathsf\s*\{T\}|\{T\})\s*\}?")
CONDITION = re.compile(
    r"^[,;\s]*(?:\\(?:text|mbox|mathrm|textrm)\s*\{\s*)?(?:,\s*)?(?:if|for|when|where|otherwise|else)?\b\s*\}?\s*"
)
MOST_ROWS = 4  # of a determinant


def block(text: str, value: Callable[[str], Value]) -> Value | None:
    """Parse an expression of matrices, or cases; None where the text is another or cannot be worked out."""
    if text.startswith(r"\begin{cases}") and (whole := BLOCK.fullmatch(text)):
        return _cases(whole[2], value)
    text = BARS.sub(r"\\det \1", BRACKETS.sub(r"\1", text))
    found = list(BLOCK.finditer(text))
    if not found or any(each[1] == "cases" for each in found):
        return None
    if behind := text[found[-1].end() :].strip():
        turned = TRANSPOSED.fullmatch(behind) and block(text[: found[-1].end()], value) if len(found) == 1 else None
        return Matrix(tuple(zip(*turned.rows, strict=True))) if isinstance(turned, Matrix) else None
    total: Matrix | Number | None = None
    for at, each in zip([0, *(each.end() for each in found)], found, strict=False):
        factor = FACTOR.fullmatch(text[at : each.start()])
        if factor is None or (total is not None and not factor[1]):
            return None
        term = _times(_matrix(each[2], value), factor[1] == "-", factor[2], value)
        total = term if total is None else _plus(total, term)
        if total is None:
            return None
    return total


def _matrix(inside: str, value: Callable[[str], Value]) -> Matrix:
    rows = [row for row in inside.split(r"\\") if row.strip()]
    return Matrix(tuple(tuple(value(cell) for cell in row.split("&")) for row in rows))


def _times(matrix: Matrix, negative: bool, factor: str, value: Callable[[str], Value]) -> Matrix | Number | None:
    """A multiple of a matrix, or its determinant; None for another expression."""
    from sympy import Integer, Mul

    term: Matrix | Number | None = matrix
    if factor.endswith("\\det"):
        term, factor = _determinant(matrix), factor.removesuffix("\\det").strip()
    times = Number(Integer(-1 if negative else 1))
    if factor:
        read = value(factor)
        if not isinstance(read, Number) or read.unit or read.percent:
            return None
        times = Number(Mul(times.tree, read.tree, evaluate=False))
    elif not negative:
        return term
    if isinstance(term, Number):
        return Number(Mul(times.tree, term.tree, evaluate=False))
    return None if term is None else _each(lambda cell: Mul(times.tree, cell, evaluate=False), term)


def _plus(one: Matrix | Number, other: Matrix | Number | None) -> Matrix | Number | None:
    from sympy import Add

    if isinstance(one, Number) and isinstance(other, Number):
        return Number(Add(one.tree, other.tree, evaluate=False))
    if not isinstance(one, Matrix) or not isinstance(other, Matrix):
        return None
    if [len(row) for row in one.rows] != [len(row) for row in other.rows]:
        return None
    return _each(lambda left, right: Add(left, right, evaluate=False), one, other)


def _each(change: Callable[..., Any], *matrices: Matrix) -> Matrix | None:
    """Work out each cell from those of the matrices; None where one is no number."""
    rows = []
    for lines in zip(*(matrix.rows for matrix in matrices), strict=True):
        if not all(isinstance(cell, Number) for line in lines for cell in line):
            return None
        rows.append(tuple(Number(change(*(cell.tree for cell in cells))) for cells in zip(*lines, strict=True)))
    return Matrix(tuple(rows))


def _determinant(matrix: Matrix) -> Number | None:
    from sympy import Add, Integer, Mul

    size = len(matrix.rows)
    cells = [cell for row in matrix.rows for cell in row]
    if (
        size > MOST_ROWS
        or any(len(row) != size for row in matrix.rows)
        or not all(isinstance(c, Number) for c in cells)
    ):
        return None
    terms = []
    for order in permutations(range(size)):
        sign = (-1) ** sum(order[i] > order[j] for i in range(size) for j in range(i + 1, size))
        terms.append(Mul(Integer(sign), *(matrix.rows[i][j].tree for i, j in enumerate(order)), evaluate=False))
    return Number(Add(*terms, evaluate=False))


def _cases(inside: str, value: Callable[[str], Value]) -> Value | None:
    """The equations of a system, or pairs of a value and its condition."""
    rows = [SIGNED.sub(r"\1\2", row).strip(" ,;") for row in inside.split(r"\\")]
    rows = [row for row in rows if row]
    if not any("&" in row for row in rows):
        return Items(solutions(flat([value(row) for row in rows])), joint="and") if rows else None
    pairs = [row.split("&", 1) for row in rows]
    if any(len(pair) < 2 for pair in pairs):
        return None
    return Items(tuple(Items((value(term.strip(" ,")), _condition(when, value)), "(", ")") for term, when in pairs))


def _condition(text: str, value: Callable[[str], Value]) -> Value:
    bare = CONDITION.sub("", text.replace("&", " "), count=1).strip(" ,.;")
    return value(bare) if bare else Words("otherwise")


def flat(values: Sequence[Value]) -> tuple[Value, ...]:
    """Flatten lists without brackets inside a list, such as the two values of a plus-minus."""
    flattened: list[Value] = []
    for item in values:
        flattened += item.items if isinstance(item, Items) and not item.opening else [item]
    return tuple(flattened)
