"""Numeric values of SymPy expressions, within bounds: numbers too large to compare are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import Any

DIGITS = 60  # of a first evaluation
MOST_DIGITS = 5000  # of the longest integers that are compared digit by digit
POINTS = 5  # at which expressions with variables are compared
TINY = 1e-30  # a number below is looked at again, with more digits: it may be the rest of a difference
FUNCTIONS = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "asin": "asin", "acos": "acos",
    "atan": "atan", "acot": "acot", "asec": "asec", "acsc": "acsc", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
    "floor": "floor", "ceiling": "ceil", "Abs": "fabs", "re": "re", "im": "im", "conjugate": "conj",
}  # fmt: skip
APPLIED = frozenset(
    ["f", "g", "h", "F", "G", "H", "P", "Q", "phi", "psi", "varphi"]
)  # names that a bracket applies; others it multiplies


class TooBigError(ArithmeticError):
    """A number with more digits than can be compared."""


def numbers(expression: Any, digits: int = DIGITS) -> list[Any]:
    """The value of a SymPy tree at the sample points, as mpmath numbers; one value where it has no variables.

    A point where it is not defined gives None.

    Raises:
        TooBigError: a power or a factorial is too large to be worked out.
        ValueError: it holds something that has no number: infinity, a limit, a matrix.
    """
    import mpmath

    with mpmath.workdps(digits):
        if not free(expression):
            return [_at(expression, 0)]
        values = []
        for point in range(POINTS):
            try:
                values.append(_at(expression, point))
            except ZeroDivisionError:
                values.append(None)
        return values


def free(expression: Any) -> set[str]:
    """The names of an expression's variables; `i` is the imaginary unit."""
    names = {_symbol(symbol) for symbol in expression.free_symbols} - {"i"}
    return names | {f"{f.func.__name__}()" for f in _undefined(expression)}


def _undefined(expression: Any) -> set[Any]:
    from sympy.core.function import AppliedUndef

    found: set[Any] = expression.atoms(AppliedUndef)
    return found


def _symbol(symbol: Any) -> str:
    return str(symbol.name).translate(str.maketrans("", "", "{} \\"))


def _sample(name: str, point: int) -> Any:
    """Sample value of a variable: between -3 and 3, unrelated for each name and point, the same in every process."""
    import mpmath

    seed = int(hashlib.sha256(f"{name} {point}".encode()).hexdigest()[:12], 16)
    return mpmath.mpf(seed) / (1 << 48) * 6 - 3


def _at(node: Any, point: int) -> Any:
    import mpmath

    if node.is_Symbol:
        return mpmath.mpc(0, 1) if _symbol(node) == "i" else _sample(_symbol(node), point)
    if node.is_Integer:
        return mpmath.mpf(int(node))
    if node.is_Rational:
        return mpmath.mpf(int(node.p)) / int(node.q)
    if node.is_Float:
        return mpmath.mpf(str(node))
    name = type(node).__name__
    constants = {"Pi": mpmath.pi, "Exp1": mpmath.e, "ImaginaryUnit": mpmath.mpc(0, 1), "GoldenRatio": mpmath.phi}
    if name in constants:
        return +constants[name]
    values = [_at(argument, point) for argument in node.args]
    if node.is_Add:
        return mpmath.fsum(values)
    if node.is_Mul:
        return mpmath.fprod(values)
    return _apply(node, name, values, point)


def _apply(node: Any, name: str, values: list[Any], point: int) -> Any:
    import mpmath
    from sympy.core.function import AppliedUndef

    if isinstance(node, AppliedUndef):
        if name in APPLIED or len(values) != 1:
            weights = [_sample(f"{name}{i}", point) for i in range(len(values))]
            return mpmath.sin(mpmath.fsum(w * v for w, v in zip(weights, values, strict=True))) + _sample(name, point)
        return _sample(name, point) * values[0]
    if node.is_Pow or name == "exp":
        base, exponent = values if node.is_Pow else (+mpmath.e, values[0])
        return _power(base, exponent)
    if name == "log":
        base = mpmath.log(values[1]) if len(values) > 1 else 1
        return mpmath.log(values[0]) / base
    if name in ("factorial", "gamma"):
        if abs(values[0]) > 2000:
            raise TooBigError(f"the factorial of {mpmath.nstr(values[0], 5)}")
        return mpmath.factorial(values[0]) if name == "factorial" else mpmath.gamma(values[0])
    if name in ("Max", "Min"):
        return (max if name == "Max" else min)(values)
    if name == "UnevaluatedExpr":
        return values[0]
    if name in FUNCTIONS and len(values) == 1:
        if abs(values[0]) > 1e12:
            raise TooBigError(f"{name} of {mpmath.nstr(values[0], 5)}")
        return getattr(mpmath, FUNCTIONS[name])(values[0])
    raise ValueError(f"{name} has no number")


def _power(base: Any, exponent: Any) -> Any:
    import mpmath

    if base == 0:
        if exponent == 0 or mpmath.re(exponent) < 0:
            raise ZeroDivisionError
        return base
    size = abs(exponent) * abs(mpmath.log10(abs(base)) or 1)
    if size > MOST_DIGITS:
        raise TooBigError(f"a number of about {mpmath.nstr(size, 5)} digits")
    return mpmath.power(base, exponent)


def rational(node: Any) -> Fraction | None:
    """The exact value of a tree of whole numbers, + - * / and small whole powers; None for another."""
    if node.is_Rational:
        return Fraction(int(node.p), int(node.q))
    if not (node.is_Add or node.is_Mul or node.is_Pow):
        return None
    values: list[Fraction] = []
    for argument in node.args:
        if (value := rational(argument)) is None:
            return None
        values.append(value)
    if node.is_Pow:
        base, exponent = values
        size = max(abs(base.numerator), base.denominator).bit_length() * abs(exponent)
        if exponent.denominator > 1 or size > 3 * MOST_DIGITS or (base == 0 and exponent <= 0):
            return None
        return base ** int(exponent)
    if sum(max(abs(v.numerator), v.denominator).bit_length() for v in values) > 12 * MOST_DIGITS:
        return None
    return sum(values, Fraction(0)) if node.is_Add else prod(values, start=Fraction(1))


def same_numbers(a: Any, b: Any, again: int = 0) -> bool:
    """Decide whether two trees have the same value at every sample point; without values, if they are identical.

    Rational numbers are compared exactly, others to 40 digits; where they agree, `again` with three times as many.
    """
    exact = rational(a), rational(b)
    if None not in exact:
        return exact[0] == exact[1]
    digits = again or DIGITS
    try:
        left, right = numbers(a, digits), numbers(b, digits)
        big = max((_digits(v) for v in [*left, *right] if v is not None), default=0)
        if big > digits // 2:
            digits = big + DIGITS
            left, right = numbers(a, digits), numbers(b, digits)
        if any(0 < abs(v) < TINY for v in [*left, *right] if v is not None):
            left, right = _without_rests(a, left, digits), _without_rests(b, right, digits)
    except (ArithmeticError, ValueError, TypeError, RecursionError):
        return bool(a == b)
    if len(left) != len(right):  # one has variables; the other is a constant
        left, right = (left * len(right), right) if len(left) == 1 else (left, right * len(left))
    pairs = [(v, w) for v, w in zip(left, right, strict=True) if v is not None and w is not None]
    enough = len(pairs) >= (1 if len(left) == 1 else 3)
    return enough and all(_close(v, w, digits) for v, w in pairs) and (again > 0 or same_numbers(a, b, 3 * digits))


def _digits(value: Any) -> int:
    import mpmath

    return int(mpmath.log10(abs(value))) + 1 if abs(value) > 1 else 0


def _without_rests(expression: Any, values: Sequence[Any], digits: int) -> list[Any]:
    """Write 0 for the rest that rounding leaves of a difference: unlike a tiny number, it shrinks with more digits."""
    finer = numbers(expression, 3 * digits)
    return [
        0 if v is not None and w is not None and 0 < abs(v) < TINY and abs(w) < abs(v) * TINY else v
        for v, w in zip(values, finer, strict=True)
    ]


def _close(a: Any, b: Any, digits: int) -> bool:
    """Compare but for 20 of the digits that were worked out; relative, so that tiny numbers differ, too."""
    import mpmath

    with mpmath.workdps(digits):
        return bool(abs(a - b) <= max(abs(a), abs(b)) * mpmath.mpf(10) ** (20 - digits))
