"""Expressions of whole numbers, parsed and evaluated exactly; no text of an answer is ever run as code."""

from __future__ import annotations

import ast
import re
from collections import Counter
from fractions import Fraction

from llmrl.answers.spelling import translated

SIGNS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"}
WRITTEN = re.compile(r"[\d\s()+*/-]*", re.ASCII)  # of an expression: whole numbers, four signs and brackets
MAX_CHARACTERS = 200  # of an expression; a longer one is no answer to a game of a few numbers
LATEX = [
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|(?<=[\d)])\s*[xX]\s*(?=[\d(])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\(?:left|right|[bB]igg?[lr]?|quad|[,;:! ]|[()\[\]])|[$`]"), " "),
]
SIDES = re.compile(r"[=\n$&]|\\[\[(]|\\approx")  # a side of an equation begins behind it
NEAR = 80  # characters at the end of a text in which a calculation begins
FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
MOST_LATEX = 500  # characters of an expression in LaTeX
MAX_DEPTH = 32  # of brackets and signs inside each other


def evaluate(expression: str) -> tuple[Fraction, Counter[int]]:
    """The exact value of an expression of whole numbers, + - * / and brackets, and how often it uses each number.

    Raises:
        ValueError: it holds anything else.
        ZeroDivisionError: it divides by zero.
    """
    expression = " ".join(expression.split())
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"{len(expression)} characters; expected at most {MAX_CHARACTERS}")
    if not WRITTEN.fullmatch(expression):
        raise ValueError("expected whole numbers, + - * / and brackets only")
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError("not an arithmetic expression") from None
    used: Counter[int] = Counter()
    return _value(tree.body, used), used


def plain_signs(expression: str) -> str:
    """Write an expression in ASCII signs: `×`, `\\times`, `\\frac{8}{4}`; one that is too long keeps its LaTeX."""
    if len(expression) <= MOST_LATEX:
        for pattern, sign in LATEX:
            expression = pattern.sub(sign, expression)
        while (shorter := FRACTION.sub(r"((\1)/(\2))", expression)) != expression:
            expression = shorter
    return translated(expression, SIGNS)


def last_calculation(text: str) -> Fraction | None:
    """The value of the calculation with which a text ends, `48 + 5` of `x = 48 + 5`; None where it is none.

    One that begins with a sign is none, since a list may begin its lines so.
    """
    sides = SIDES.split(text[-NEAR:])
    side = plain_signs(sides[-1]).strip()
    if (len(sides) < 2 and len(text) > NEAR) or not (side[:1].isdigit() or side[:1] == "("):
        return None
    try:
        return evaluate(side)[0]
    except (ValueError, ZeroDivisionError):
        return None


def misused(used: Counter[int], given: Counter[int], *, every: bool = True) -> str:
    """Describe how the numbers used differ from those given; empty if they do not. `every`: all of them are needed."""
    extra, missing = used - given, given - used
    if extra:
        return f"uses {sorted(extra.elements())}, which were not given"
    return f"leaves out {sorted(missing.elements())}" if missing and every else ""


def _value(node: ast.expr, used: Counter[int], depth: int = 0) -> Fraction:
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} operations inside each other")
    match node:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            used[number] += 1
            return Fraction(number)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, used, depth + 1)
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _value(left, used, depth + 1), _value(right, used, depth + 1)
            match operator:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
    raise ValueError("expected whole numbers, + - * / and brackets only")
