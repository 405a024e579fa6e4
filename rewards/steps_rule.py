"""A process reward that needs no model: each calculation of an answer, checked exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from llmrl.answers.arithmetic import evaluate
from llmrl.answers.steps import step_ends, steps
from llmrl.types import Problem, Score

RUN = re.compile(r"(?:[-+*/×·÷−=() \t\d]+|[.,](?=\d))+")  # a point or comma before anything but a digit ends a sentence
SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-"})
BEFORE = re.compile(r"^\s*(?:[-*+][ \t]+|\(?\d+[):][ \t]+(?=[\d(]))")  # a bullet, or the number of a line
CURRENCY = re.compile(r"\\?[$€£¥]")
BOLD = re.compile(r"(?<![\d)])\*\*(?=[\d(])|(?<=[\d)])\*\*(?![\d( ])")
TIMES = re.compile(r"(?<=[\d)])[ \t]*[xX][ \t]+(?=[\d(.])")
GOES_ON = re.compile(r"[ \t]*(?:[+*/×·÷]|[-−](?!\d))")  # an operator that needs the text before the run
PHRASE = re.compile(r"(?:(?:%|\b(?:of|by|times|x|plus|minus|over|per))\s*|\d:)$", re.IGNORECASE)  # so does a word
NUMBER = re.compile(r"[-+]?[\d.,]+")
TWO = re.compile(r"([-+]?(?<![\d.,])[\d.,]+) (?!\d{3}(?!\d))[\d.,]+")  # 4 15, of: 4 15 minute blocks
LETTER = re.compile(r"[b-zB-HJ-Z](?![a-zA-Z])")  # alone, a variable: 7 y, not 7 a day
CALCULATES = re.compile(r"[\d)](?:[ \t]*[-+*/]|\()")
DECIMAL = re.compile(r"(?<!\d)(\d*)\.(\d+)")
MIXED = re.compile(r"(?<![\d/.])(\d+) (?:and )?(\d+/\d+)(?![\d.])")
REWRITTEN = (  # where one of the signs stands
    ("$€£¥", CURRENCY, ""),
    (("**",), BOLD, ""),
    (("",), BEFORE, ""),
    ("xX", TIMES, " * "),
    ("/", MIXED, r"(\1+\2)"),
)
BRACKET = re.compile(r"[()]")
MOST_AROUND = 4  # brackets that may stand around more than the side of an equation
NEAR = 80  # characters around a run that may belong to it
LEAST_ROUNDED = 2  # digits behind the point


@dataclass(frozen=True)
class StepsRule:
    """Scores each line that calculates, such as `3 + 4 = 7`: 1.0 if all its equations hold, else 0.0.

    They hold exactly, but for a decimal number of two or more digits behind the point, which may be rounded.

    A line without a calculation belongs to the next that has one, and trailing text to the last. The scores are in
    `Score.steps`; the value is 0.0 and there is no verdict, for a step may be right and useless. Used alone it rewards
    writing many right lines: shape it with `clip_delta`.
    """

    def __call__(self, problem: Problem, text: str) -> Score:
        ends: list[int] = []
        scores: list[float] = []
        lines = step_ends(text, "line", least_words=1)
        judged: dict[str, float | None] = {}  # by line: a policy that loops writes the same one again and again
        for end, line in zip(lines, steps(text, lines), strict=True):
            if line not in judged:
                found = calculations(line)
                judged[line] = float(all(holds(sides) for sides in dict.fromkeys(found))) if found else None
            if (score := judged[line]) is not None:
                ends.append(end)
                scores.append(score)
        if ends:
            ends[-1] = len(text)
        return Score(0.0, steps=scores, step_ends=ends, reason=f"{sum(scores):g} of {len(scores)} calculations hold")


def calculations(line: str) -> list[tuple[str, ...]]:
    """Find the equations of whole and decimal numbers in a line, each as its sides; at least one side calculates.

    A side that touches a letter (`2x + 3`), or may continue in words (`20% of 50`), is incomplete and left out: the
    rest of the equation must hold all the same. An equation with a bracket that does not close is none, neither right
    nor false. An equation that stands there again is listed once.
    """
    if "=" not in line:
        return []
    for signs, pattern, plain in REWRITTEN:
        if any(sign in line for sign in signs):  # finding a sign costs a tenth of a pass of an expression
            line = pattern.sub(plain, line)
    found, seen = [], set()
    for run in RUN.finditer(line):
        if "=" not in run[0]:
            continue
        before, after = line[max(0, run.start() - NEAR) : run.start()], line[run.end() : run.end() + NEAR]
        if (before, run[0], after) in seen:  # a line that loops holds the same equation again and again
            continue
        seen.add((before, run[0], after))
        sides = [side.strip(" \t,") for side in run[0].translate(SIGNS).split("=")]
        for _ in range(MOST_AROUND):  # brackets around more than a side
            sides[0] = sides[0].removeprefix("(") if sides[0].count("(") > sides[0].count(")") else sides[0]
            sides[-1] = sides[-1].removesuffix(")") if sides[-1].count("(") < sides[-1].count(")") else sides[-1]
        if _is_part(before, run[0], sides[0]):
            sides[0] = ""
        sides[-1] = TWO.sub(r"\1", sides[-1])
        if _goes_on(run[0], after):
            sides[-1] = ""
        sides = sides[sides[0] == "" : len(sides) - (sides[-1] == "")]
        if not all(map(_balanced, dict.fromkeys(sides))):
            continue
        if len(sides) > 1 and any(map(CALCULATES.search, dict.fromkeys(sides))):
            found.append(tuple(sides))
    return found


def holds(sides: Sequence[str]) -> bool:
    """Tell whether all sides have the same value, a rounded one up to its rounding; False where a side has none."""
    try:
        values = [(evaluate(_plain(side))[0], _rounded(side)) for side in dict.fromkeys(sides)]
    except (ValueError, ZeroDivisionError):
        return False
    known = [value for value, slack in values if not slack] or [values[0][0]]
    return len(set(known)) == 1 and all(abs(value - known[0]) <= slack for value, slack in values if slack)


def _balanced(side: str) -> bool:
    """Tell whether every bracket of a side has its partner there."""
    depth = 0
    for sign in BRACKET.findall(side):
        depth += 1 if sign == "(" else -1
        if depth < 0:
            return False
    return depth == 0


def _is_part(before: str, run: str, side: str) -> bool:
    """Tell whether the first side of a run may begin in the text before it."""
    touches = before[-1:].isalnum() or before[-1:] in tuple("^%_\\√}")
    if before and ((touches and run[0] not in " \t=") or GOES_ON.match(run) or PHRASE.search(before)):
        return True
    return before.rstrip()[-1:].isalpha() and NUMBER.fullmatch(side) is not None


def _goes_on(run: str, after: str) -> bool:
    """Tell whether the last side of a run continues in the text after it."""
    if run[-1] in " \t":
        return LETTER.match(after) is not None
    return after[:1].isalpha() or after[:1] in tuple("^!%")


def _rounded(side: str) -> Fraction | None:
    """Half a unit of the last digit of a decimal number; None for a number that must be exact."""
    if not NUMBER.fullmatch(side) or len(digits := side.partition(".")[2]) < LEAST_ROUNDED:
        return None
    value = abs(evaluate(_plain(side))[0])
    return max(Fraction(1, 2 * 10 ** len(digits)), value / 10**12)  # the noise of floating numbers, too


def _plain(side: str) -> str:
    """Rewrite in Python's notation and whole numbers: 1,200.5 as (12005/10), 2(3) as 2*(3)."""
    side = re.sub(r"(?<=\d)[, ](?=\d{3}(?!\d))", "", side)
    side = DECIMAL.sub(lambda m: f"({m[1]}{m[2]}/1{'0' * len(m[2])})", side)
    side = re.sub(r"(?<=[\d)])\(|(?<=\))(?=\d)", lambda m: f"*{m[0]}", side)
    return re.sub(r"(?<!\d)0+(?=\d)", "", side)


plugin = StepsRule
