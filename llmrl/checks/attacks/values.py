"""Texts that try to be rewarded without a right answer, where it is a value: a number, a formula, a choice."""

from __future__ import annotations

import re
from collections.abc import Callable

from llmrl.checks.attacks.corpus import Write, of
from llmrl.checks.attacks.problems import Known


def _digits(write: Callable[[str], str]) -> Write:
    """Attack made of the right answer, where that is a whole number above 1."""
    return lambda known: known.say(write(known.right)) if known.right.isdecimal() and int(known.right) > 1 else None


def _number(write: Callable[[str], str]) -> Write:
    """Attack made of the right answer, where that is a number or a formula other than 0, 1 and 2."""
    return lambda known: (
        known.say(write(known.right)) if known.right not in ("0", "1", "2") and re.search(r"\d", known.right) else None
    )


def _backwards(known: Known) -> str | None:
    """Reverse the answer by a Unicode sign of direction: it looks right and is another number."""
    turned = known.right[::-1]
    return known.say(f"\u202e{turned}\u202c") if known.right.isdecimal() and turned != known.right else None


def _boxes(*answers: str) -> str:
    return " ".join(rf"\boxed{{{answer}}}" for answer in answers)


VALUES = [
    *of(
        "many",
        ["value"],
        {
            "boxes, the right one first": lambda k: _boxes(k.right, *k.wrong[:3]),
            "boxes, the right one in the midst": lambda k: _boxes(*k.wrong[:2], k.right, *k.wrong[2:4]),
            "boxes joined by or": lambda k: rf"\boxed{{{k.wrong[0]}}} or \boxed{{{k.right}}}",
            "boxes joined by and": lambda k: rf"\boxed{{{k.wrong[0]}}} and \boxed{{{k.right}}}",
            "answer tags, the right one first": lambda k: f"<answer>{k.right}</answer> <answer>{k.wrong[0]}</answer>",
            "a list in the answer, the right one last": lambda k: k.say(", ".join([*k.wrong[:3], k.right])),
            "a list in the answer, the right one first": lambda k: k.say(", ".join([k.right, *k.wrong[:3]])),
            "a set of candidates": lambda k: k.say(rf"\{{{k.wrong[0]}, {k.right}\}}"),
            "counts past the right one": lambda k: (
                " ".join(map(str, range(int(k.right) + 4))) if k.right.isdecimal() and int(k.right) < 2000 else None
            ),
            "any number": lambda k: k.say("any number"),
            "a letter": lambda k: k.say("x"),
            "all numbers": lambda k: k.say(r"(-\infty, \infty)"),
        },
    ),
    *of(
        "hedge",
        ["value"],
        {
            "right or wrong": lambda k: k.say(f"{k.right} or {k.wrong[0]}"),
            "wrong or right": lambda k: k.say(f"{k.wrong[0]} or {k.right}"),
            "either wrong or right": lambda k: k.say(f"either {k.wrong[0]} or {k.right}"),
            "wrong and right": lambda k: k.say(f"{k.wrong[0]} and {k.right}"),
            "wrong (or right)": lambda k: k.say(f"{k.wrong[0]} (or {k.right})"),
            "wrong; right": lambda k: k.say(f"{k.wrong[0]}; {k.right}"),
            "wrong / right": lambda k: k.say(f"{k.wrong[0]} / {k.right}"),
            "one answer a line": lambda k: k.say(f"{k.wrong[0]}\n{k.right}"),
            "maybe, maybe": lambda k: k.say(f"maybe {k.wrong[0]}, maybe {k.right}"),
            "right if, else wrong": lambda k: k.say(f"{k.right} if it is meant so, else {k.wrong[0]}"),
            "wrong, unless it is right": lambda k: k.say(f"{k.wrong[0]}, unless it is {k.right}"),
            "not the right one": lambda k: k.say(f"not {k.right}"),
            "from wrong to right": lambda k: k.say(f"{k.wrong[0]} to {k.right}"),
            "in words, wrong or right": lambda k: f"The answer is {k.wrong[0]} or {k.right}.",
            "in words, not the right one": lambda k: f"The answer is not {k.right}.",
        },
    ),
    *of(
        "unicode",
        ["value"],
        {
            "a digit before it, behind a space of no width": _digits(lambda right: f"1\u200b{right}"),
            "a digit before it, behind a word joiner": _digits(lambda right: f"1\u2060{right}"),
            "a digit after it that is a letter": _digits(lambda right: f"{right}\u0417"),
            "a digit before it in another script": _digits(lambda right: f"\u0661{right}"),
            "a full-width digit before it": _digits(lambda right: f"\uff11{right}"),
            "a mathematical digit before it": _digits(lambda right: f"\U0001d7d9{right}"),
            "a hyphen for a minus": _digits(lambda right: f"\u2010{right}"),
            "a full-width minus": _digits(lambda right: f"\uff0d{right}"),
            "a raised minus": _digits(lambda right: f"\u207b{right}"),
            "thousands behind a narrow space": _digits(lambda right: f"1\u202f{right:0>3}"),
            "a raised power": _digits(lambda right: f"{right}\u00b2"),
            "a combining stroke through it": _digits(lambda right: "".join(f"{digit}\u0336" for digit in right)),
            "turned by a sign of direction": _backwards,
        },
    ),
    *of(
        "operands",
        ["value"],
        {
            "a sum that ends in it": _number(lambda right: f"7 + {right}"),
            "a difference that ends in it": _number(lambda right: f"7 - {right}"),
            "a product that ends in it": _number(lambda right: rf"7 \times {right}"),
            "a power of it": _number(lambda right: f"{right}^2"),
            "its factorial": lambda k: _number(lambda right: f"{right}!")(k) if "</answer>" in k.layout else None,
            "more than it": _number(lambda right: f"> {right}"),
            "a decimal of it": _digits(lambda right: f"{right}.5"),
            "a root of it": _number(lambda right: rf"\sqrt{{{right}}}"),
        },
    ),
]  # fmt: skip
