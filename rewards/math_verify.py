"""Mathematical equality of the final answer and the reference."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.types import Problem, Score


@dataclass(frozen=True)
class MathVerify:
    """1.0 if the final answer equals the reference mathematically, else 0.0."""

    def warm_up(self) -> None:
        """Import what a first call needs."""
        self(Problem(id="warm-up", messages=(), answer="1"), "1")

    def __call__(self, problem: Problem, text: str) -> Score:
        from math_verify import parse, verify

        gold = parse(f"${problem.answer}$", parsing_timeout=None)
        if not gold:
            raise ValueError(f"the reference {problem.answer!r} cannot be read")
        read = parse(text, parsing_timeout=None)
        if not read:
            return Score(0.0, "unparsable", reason="no answer found")
        right = verify(gold, read, timeout_seconds=None)
        return Score(float(right), "correct" if right else "wrong", reason=f"read {read[0]}, expected {gold[0]}")


plugin = MathVerify
