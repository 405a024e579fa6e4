"""Mathematical equality by the kind of difference: right answers in odd forms, and traps that look like them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmrl.rewards.math_verify import MathVerify
from llmrl.types import Problem

KINDS = {  # why a label is as it is
    "backslashes": "Where every backslash is doubled, a file of JSON was shown as it stands.",
    "separators": "A comma in braces separates thousands, also with blanks; two numbers in brackets are two.",
    "prose": "A sentence's result is what it states as such: no number of its reasons, and none that it denies.",
    "languages": "The same in other languages, with their digits; denials and alternatives there count, too.",
    "ratios": "A name before a ratio says what it is of; turned round it is another. 12:05 is a time.",
    "named lists": "A name holds for the values behind it; `x=1, y=4; x=2, y=3` are two points, not four numbers.",
    "boxes": "Boxes with nothing or a joining word between are one answer of several values: no guess is right. "
    "A box that is an operand, denied, or taken back by the words behind it is none.",
    "left sides": "What nobody can work out may stand before its result; a calculation that is false gives none.",
    "matrices": "A multiple or a sum of matrices is a matrix; a determinant is a number.",
    "cases": "The equations of a system, and the pieces of a function with their conditions, stand in any order.",
    "unions": "Intervals that touch or overlap are one; where a point is missing, they are two.",
    "recurring": "Digits that repeat, and then three points, go on for ever; others are cut off somewhere.",
    "vulgar fractions": "A fraction in one sign is that fraction, behind a whole number a mixed number.",
    "bases": "The base may be written in words; a number in one base is no number in another.",
    "units": "A unit that the reference lacks is ignored, another than its own is wrong; words that change the "
    "number (`dozen`, `squared`, `below zero`) are no unit.",
    "letters": "Upright e and i are the constants: 3i is not 3.",
    "scientific": "Numbers are compared in their ratio: tiny ones differ as others do, and zero is none of them.",
    "choice hedges": "A letter beside others, or one that words take back, picks nothing.",
    "hedges": "Alternatives, bounds and denials around a number make it no answer.",
}
PROSE = ("prose", "languages", "boxes", "hedges")  # what cannot stand in a box
ROWS = [json.loads(line) for line in (Path(__file__).parent / "math_kinds.jsonl").read_text("utf-8").splitlines()]


def misses(rows: list[tuple[str, str, bool]]) -> list[tuple[str, str, str]]:
    scores = [MathVerify()(Problem(id="a", messages=(), answer=gold), text) for gold, text, _ in rows]
    return [
        (gold, text, score.reason)
        for (gold, text, label), score in zip(rows, scores, strict=True)
        if (score.value == 1.0) != label
    ]


def test_every_kind_has_right_answers_and_traps() -> None:
    labels = {kind: {row["label"] for row in ROWS if row["kind"] == kind} for kind in KINDS}
    assert {row["kind"] for row in ROWS} == set(KINDS)
    assert all(of_kind == {True, False} for of_kind in labels.values())


@pytest.mark.parametrize("kind", KINDS)
def test_bare(kind: str) -> None:
    assert misses([(row["gold"], row["candidate"], row["label"]) for row in ROWS if row["kind"] == kind]) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in PROSE])
def test_wrapped(kind: str) -> None:
    """In a box, beside a reference between dollars."""
    rows = [
        (row["gold"] if "$" in row["gold"] else f"${row['gold']}$", f"So \\boxed{{{row['candidate']}}}.", row["label"])
        for row in ROWS
        if row["kind"] == kind
    ]
    assert misses(rows) == []
