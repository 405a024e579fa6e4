"""Arithmetic, exactly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from llmrl.answers.arithmetic import evaluate
from llmrl.tool_calls.functions import ToolFunction, of_python


@dataclass(frozen=True)
class Calculator:
    """Options of the tool `calculator`: there are none. It reads whole numbers, + - * / and brackets."""

    @asynccontextmanager
    async def functions(self) -> AsyncIterator[Sequence[ToolFunction]]:
        """The function `calculator`."""
        yield [of_python(calculator)]


def calculator(expression: str) -> str:
    """Compute an arithmetic expression exactly.

    Args:
        expression: Whole numbers, + - * / and brackets, such as (3 + 4) * 5 / 2.
    """
    value, _ = evaluate(expression)
    return str(value) if value.denominator == 1 else f"{value} = {float(value):.12g}"


plugin = Calculator
