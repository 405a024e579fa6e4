"""The game of 24: make 24 from four numbers, each used once."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from llmrl.answers.arithmetic import evaluate, misused, plain_signs
from llmrl.answers.marked import innermost, marked
from llmrl.answers.thoughts import after_thoughts
from llmrl.types import Problem, Score


@dataclass(frozen=True)
class Game24Verifier:
    """1.0 for an expression of + - * / that uses every given number exactly once and equals 24 exactly, else 0.0.

    The expression is in the last answer tags, else in the last box, else after the last `Answer:`, else the last line.
    It is evaluated in fractions, so that `8 / (3 - 8 / 3)` is 24. The value that the answer claims for it does not
    count: text after an equals sign is not read. LaTeX's fractions and signs are understood; powers, roots,
    decimals and joined digits are not part of the game. Needs `nums` in `problem.info`; `target` there, where the
    problem has one, takes the place of 24. The game as a test of language models: Yao et al. 2023 (arXiv 2305.10601).

    Raises:
        ValueError: the problem has no `nums`.
    """

    def __call__(self, problem: Problem, text: str) -> Score:
        if "nums" not in problem.info:
            raise ValueError(f"the problem has no nums, only {', '.join(problem.info) or 'no columns'}")
        given = Counter(int(n) for n in problem.info["nums"])
        target = Fraction(str(problem.info.get("target", 24)))
        expression = written(text)
        if not expression:
            return Score(0.0, "unparsable", reason="no expression in the answer")
        try:
            value, used = evaluate(expression)
        except ValueError as error:
            return Score(0.0, "unparsable", reason=f"{expression[:80]!r}: {error}")
        except ZeroDivisionError:
            return Score(0.0, "wrong", reason=f"{expression!r} divides by zero", answer=expression)
        wrong = misused(used, given) or (f"is {value}, expected {target}" if value != target else "")
        reason = f"{expression!r} {wrong or 'is right'}"
        return Score(float(not wrong), "wrong" if wrong else "correct", reason=reason, answer=expression)


def written(text: str) -> str:
    """Extract the expression that a text gives as its answer, in ASCII signs; "" where there is none."""
    line = innermost(marked(text) or (after_thoughts(text).strip().splitlines() or [""])[-1])
    sides = [side.strip(" \t*.,;:") for side in plain_signs(line).split("=")]
    return next((side for side in sides if re.search(r"[\d)]\s*[-+*/]", side)), sides[0])


plugin = Game24Verifier
