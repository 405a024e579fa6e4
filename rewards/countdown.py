"""The countdown game: make the target from the numbers, each used once."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from llmrl.answers.arithmetic import evaluate, misused, plain_signs
from llmrl.answers.delimited import tagged
from llmrl.answers.marked import innermost, marked
from llmrl.answers.thoughts import after_thoughts
from llmrl.types import Problem, Score, Verdict

CLAIM = re.compile(r"-?\d{1,18}(?:\.\d{1,18}|\s*/\s*\d{1,18})?", re.ASCII)


@dataclass(frozen=True)
class CountdownVerifier:
    """1.0 for an expression of + - * / over the given numbers that equals the target exactly, else less.

    Reads the last pair of answer tags, else the last box, else what follows the last `Answer:`, else the last line;
    `= target` may follow the expression.
    A tagged answer that is malformed or wrong gets `format_score`, an untagged one 0.0. The verdict is `correct` only
    for a solution: report `accuracy` beside the reward, which the format's share makes larger. Needs `nums` and
    `target` in `problem.info`. The game and its score follow TinyZero (Pan et al., 2025); its grader evaluates what a
    filter of characters lets through, which admits `2**25` and `25//3`; here the expression is parsed.

    Raises:
        ValueError: the problem has no `nums` or `target`.
    """

    format_score: float = 0.1  # for tags that hold no solution
    rule: Literal["exact", "subset"] = "exact"  # exact: every number once; subset: each at most once
    tags_required: bool = False  # an answer without tags gets 0.0, right or wrong

    def __call__(self, problem: Problem, text: str) -> Score:
        if "nums" not in problem.info or "target" not in problem.info:
            raise ValueError(f"the problem has no nums and target, only {', '.join(problem.info) or 'no columns'}")
        target = Fraction(str(problem.info["target"]))
        text = after_thoughts(text)
        inside = tagged(text, any_case=False)
        told = None if self.tags_required else marked(text)
        untagged = [] if self.tags_required else [innermost(told)] if told else text.strip().splitlines()[-1:]
        lines = untagged if inside is None else [inside]
        consolation = 0.0 if inside is None else self.format_score
        if not lines:
            return Score(0.0, "unparsable", reason="no answer tags" if text.strip() else "an empty answer")
        written, equals, claim = plain_signs(lines[0]).strip().partition("=")
        expression = written.strip()
        try:
            value, used = evaluate(expression)
            claimed = _claimed(claim.strip()) if equals else value
        except (ValueError, ZeroDivisionError) as error:
            return Score(consolation, "unparsable", reason=f"{expression[:80]!r}: {error}")
        given = Counter(int(n) for n in problem.info["nums"])
        if wrong := misused(used, given, every=self.rule == "exact"):
            return Score(consolation, "wrong", reason=f"{expression!r} {wrong}", answer=expression)
        right = value == target == claimed
        reason = f"{expression} is {value}, expected {target}"
        verdict: Verdict = "correct" if right else "wrong"
        return Score(1.0 if right else consolation, verdict, reason=reason, answer=expression)


def _claimed(claim: str) -> Fraction:
    """Parse the value that the answer claims for its expression; refuse `1e999999999`, which would take forever."""
    if not CLAIM.fullmatch(claim):
        raise ValueError(f"says that it equals {claim[:40]!r}; expected a number")
    return Fraction(claim.replace(" ", ""))


plugin = CountdownVerifier
