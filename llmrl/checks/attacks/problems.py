"""Problems with a known right answer and wrong ones, with which a reward is attacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from math import prod
from random import Random
from typing import Literal

from llmrl.errors import DataError
from llmrl.types import Problem

Kind = Literal["value", "expression", "code", "sentence", "json", "edit", "repair"]

THOUGHTS = "The question is read twice and worked through."
"""Says nothing of any answer."""
FORMS: Mapping[Kind, Sequence[str]] = {
    "value": (
        "<think>\n{thoughts}\n</think>\n<answer>\\boxed{{answer}}</answer>",
        "<think>\n{thoughts}\n</think>\n<answer>{answer}</answer>",
        "<think>\n{thoughts}\n</think>\n<answer>\n{answer}\n</answer>",
        "{thoughts}\nThe answer is \\boxed{{answer}}.",
        "{thoughts}\n#### {answer}",
        "{thoughts}\nThe answer is {answer}.",
        "{answer}",
    ),
    "expression": ("<think>\n{thoughts}\n</think>\n<answer>{answer}</answer>", "{thoughts}\n{answer}", "{answer}"),
    "code": ("<think>\n{thoughts}\n</think>\n```python\n{answer}\n```", "```python\n{answer}\n```", "{answer}"),
    "json": ("<think>\n{thoughts}\n</think>\n<answer>{answer}</answer>", "{answer}"),
    "edit": ("<think>\n{thoughts}\n</think>\n<solution>\n{answer}\n</solution>",),
    "repair": ("<think>\n{thoughts}\n</think>\n<solution>\n{answer}\n</solution>", "{answer}"),
    "sentence": ("{answer}", "<think>\n{thoughts}\n</think>\n<answer>{answer}</answer>"),
}
"""Forms of writing an answer; a reward is attacked in the form in which it rewards a right answer most."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A problem with bare answers, right and wrong, and the form in which they are written."""

    problem: Problem
    right: str
    wrong: Sequence[str]  # the first is the honest mistake; three or more of a value
    kind: Kind = "value"
    form: str = ""  # one of FORMS
    opened: str = ""  # by the chat template of the policy, behind the problem: `<think>`

    @property
    def layout(self) -> str:
        """The form, or the first of its kind."""
        return self.form or FORMS[self.kind][0]

    def say(self, answer: str, thoughts: str = THOUGHTS) -> str:
        """Write the text of an answer."""
        return self.layout.replace("{thoughts}", thoughts).replace("{answer}", answer)

    def padded(self, answer: str, text: str) -> str:
        """Write an answer behind a text: in its thoughts, where the form has some."""
        return self.say(answer, text) if "{thoughts}" in self.layout else f"{text}\n{self.say(answer)}"

    def in_form(self, form: str) -> Known:
        """Return the same problem with another form."""
        return replace(self, form=form)


LARGER = Problem(
    id="audit/larger",
    messages=[{"role": "user", "content": "Which of 318 and 1203 is the smaller one? Both stand before 9."}],
    answer="318",
)
"""Its answer stands in the prompt, among other numbers."""
CAPITAL = Problem(
    id="audit/capital", messages=[{"role": "user", "content": "What is the capital of France?"}], answer="Paris"
)
OPTIONS = Problem(
    id="audit/options",
    messages=[{"role": "user", "content": "Which boils at 100 degrees?\nA) iron\nB) water\nC) sand\nD) salt"}],
    answer="B",
    info={"options": {"A": "iron", "B": "water", "C": "sand", "D": "salt"}},
)
SCHEMA = Problem(
    id="audit/schema",
    messages=[{"role": "user", "content": "How many legs has a spider? Answer in JSON."}],
    info={
        "schema": {
            "type": "object",
            "properties": {"legs": {"type": "integer", "minimum": 1}},
            "required": ["legs"],
            "additionalProperties": False,
        }
    },
)
FILE = (
    "def mean(numbers):\n    total = sum(numbers)\n    return total / 2\n\n\ndef half(number):\n    return number / 2\n"
)
BUG = Problem(
    id="audit/bug",
    messages=[{"role": "user", "content": f"The mean is wrong. mean.py:\n{FILE}"}],
    info={
        "files": {"mean.py": FILE},
        "oracle_new": {"mean.py": FILE.replace("total / 2", "total / len(numbers)")},
    },
)


def edit(search: str, replacement: str, path: str = "mean.py") -> str:
    """Write a search/replace block."""
    return f"```python\n### {path}\n<<<<<<< SEARCH\n{search}\n=======\n{replacement}\n>>>>>>> REPLACE\n```"


SENTENCES = (("dog run park", "The dog likes to run in the park."), ("boat sail wave", "A boat can sail on any wave."))


def known(problem: Problem) -> Known:
    """Find right and wrong answers to a problem by its columns.

    Raises:
        DataError: no column holds a right answer.
    """
    info = problem.info
    if "nums" in info and ("target" in info or "solution" in info):
        return _expression(problem)
    if {"test", "test_list", "tests"} & set(info):
        return _code(problem)
    if "words" in info:
        sentence = str(
            info.get("sentence") or f"They {', then '.join(map(str, info['words']))} all day long, as one does."
        )
        return Known(problem=problem, right=sentence, wrong=["Nothing happens here."], kind="sentence")
    if problem.answer.strip():
        return Known(problem=problem, right=problem.answer.strip(), wrong=_others(problem.answer.strip()))
    raise DataError(
        f"problem {problem.id}: nothing in it tells what is right: expected an answer, nums with a solution, tests "
        f"with the code that passes them, or words; found {', '.join(info) or 'no columns'}"
    )


def _others(right: str) -> list[str]:
    """Wrong values near a right one."""
    if right.isalpha():
        words = "ABCD" if len(right) == 1 else ("London", "Rome", "Berlin", "Madrid")
        return [word for word in words if word != right]
    try:
        value = Fraction(right.replace(",", ""))
    except ValueError:
        return [other for other in ("17", "40", "-3", "8") if other != right]
    return [str(value + 1), str(value + 2), str(value + 10), str(-value - 1)]


def _expression(problem: Problem) -> Known:
    solution = str(problem.info.get("solution") or "")
    if not solution:
        raise DataError(f"problem {problem.id}: no solution; expected one in info, to tell what is right")
    first, *rest = (int(number) for number in problem.info["nums"])
    values = {" + ": first + sum(rest), " * ": prod([first, *rest]), " - ": first - sum(rest)}
    wrong = [sign.join(map(str, [first, *rest])) for sign, value in values.items() if value != _target(problem)]
    return Known(problem=problem, right=solution, wrong=wrong, kind="expression")


def _target(problem: Problem) -> int:
    return int(problem.info.get("target", 24))


def _code(problem: Problem) -> Known:
    info = problem.info
    right = str(info.get("code") or info.get("solution") or problem.answer)
    if "prompt" in info and not right.lstrip().startswith(("def ", "import ", "from ", "class ")):
        right = str(info["prompt"]) + right
    if not right.strip():
        raise DataError(f"problem {problem.id}: no program that passes its tests; expected one in info.code or answer")
    name = str(info.get("entry_point") or _defined(right))
    return Known(problem=problem, right=right, wrong=[f"def {name}(*args):\n    return 'no'"], kind="code")


def _defined(code: str) -> str:
    """The last function that a program defines at its top."""
    names = [line[4:].partition("(")[0] for line in code.splitlines() if line.startswith("def ")]
    return names[-1] if names else "solution"


def varied(characters: int) -> str:
    """Write so many characters of sentences, all different, without a digit."""
    return _cut(_SENTENCES, characters)


def repeated(sentence: str, characters: int) -> str:
    """Repeat a sentence up to so many characters."""
    return _cut([sentence] * (characters // len(sentence) + 1), characters)


def sums(characters: int, *, same: bool) -> str:
    """Write lines such as `12 + 13 = 25`, all right: the same one repeated, or as many that differ."""
    pairs = [(12, 13)] if same else [(a, b) for a in range(10, 50) for b in range(10, 50)]
    lines = [f"{a} + {b} = {a + b}" for a, b in pairs] * (characters if same else 1)
    return "\n".join(lines[: characters // 13])


def _cut(sentences: Sequence[str], characters: int) -> str:
    """Cut sentences to exactly so many characters, so that two paddings are of one length."""
    text = "\n".join(sentences)
    assert len(text) >= characters
    return text[:characters]


_WHO = ("The farmer", "A neighbour", "My teacher", "The captain", "Her brother", "A clerk", "The gardener", "A visitor")
_DOES = ("looks at", "writes down", "forgets", "remembers", "talks about", "measures", "compares", "leaves")
_WHAT = ("the long list", "every single case", "what was asked", "the first half", "a better way", "the other side")
_SENTENCES = [f"{who} {does} {what}." for who, does, what in product(_WHO, _DOES, _WHAT)]
Random(0).shuffle(_SENTENCES)
