"""Mathematical equality of the final answer and the reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llmrl.answers.equality import equal, same_text
from llmrl.answers.extract import final_answer
from llmrl.answers.normalise import depth
from llmrl.answers.units import asked_scale
from llmrl.answers.value import read
from llmrl.answers.words import valued_choice
from llmrl.types import Problem, Score

MAX_CHARACTERS = 1000  # of an answer; a longer one is no answer to a question of mathematics
MAX_DEPTH = 25  # brackets within brackets


@dataclass(frozen=True)
class MathVerify:
    """1.0 if the final answer of a text equals the reference mathematically, else 0.0.

    The answer is the last box, else the stated answer ("the answer is", `#### 5`, `A: 5`), else
    the text itself or its last formula or number. Formulas are parsed by latex2sympy2_extended, the parser of
    math-verify, and compared in value at 60 digits; lists, intervals, relations, units and words by rules of their own.

    Raises:
        ValueError: the reference is empty.
    """

    def warm_up(self) -> None:
        """Import the packages that a first call needs."""
        self(Problem(id="warm-up", messages=(), answer=r"\frac{x}{2}"), r"\boxed{x/2}")

    def __call__(self, problem: Problem, text: str) -> Score:
        gold, expected = _reference(problem.answer)
        answer = final_answer(text)
        if answer is None:
            return Score(0.0, "unparsable", reason="no answer found")
        levels = depth(answer)
        if len(answer) > MAX_CHARACTERS or levels > MAX_DEPTH:
            return Score(0.0, "unparsable", reason=f"an answer of {len(answer)} characters, {levels} brackets deep")
        right = (
            same_text(gold, answer)
            or _same(expected, answer)
            or _same_beside_letters(gold, answer)
            or _same_in_words_of(problem, gold, answer)
        )
        reason = f"read {answer[:200]!r}, expected {gold[:200]!r}"
        return Score(float(right), "correct" if right else "wrong", reason=reason, answer=answer)


@lru_cache(maxsize=4096)
def _reference(answer: str) -> tuple[str, Any]:
    gold = final_answer(answer, reference=True)
    value = read(gold) if gold else None
    if gold is None or value is None:
        raise ValueError(f"the reference {answer!r} holds no answer")
    return gold, value


def _same(expected: Any, answer: str) -> bool:
    found = read(answer)
    return found is not None and expected is not None and equal(expected, found)


def _same_beside_letters(gold: str, answer: str) -> bool:
    """Compare the values where a letter of a choice stands before one, as in `(B) 42`, or before both."""
    left, right = valued_choice(gold), valued_choice(answer)
    if left is None and right is None:
        return False
    if left and right and left[0] != right[0]:
        return False
    expected = read(left[1] if left else gold)
    return _same(expected, right[1] if right else answer)


def _same_in_words_of(problem: Problem, gold: str, answer: str) -> bool:
    """Compare `2.2 million tons` with the reference 2.2 where the question is how many million tons."""
    word = asked_scale(str(problem.messages[-1]["content"])) if problem.messages else ""
    return bool(word) and word in answer.lower() and _same(read(f"{gold} {word}"), answer)


plugin = MathVerify
