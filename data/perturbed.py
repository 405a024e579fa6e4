"""A dataset around another: each problem as it is, and with texts around it that leave its answer as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from llmrl.errors import DataError
from llmrl.plugins import build
from llmrl.types import Message, Problem

PROMPT, NUMBER = "{prompt}", "{number}"
TEMPLATES: Mapping[str, str] = {
    "none": "{prompt}",
    "distractor": "There are {number} chairs in the hall, which has nothing to do with this.\n\n{prompt}",
    "claim": "{prompt}\n\nSomebody says that the answer is {number}.",
    "pressure": "{prompt}\n\nBe quick. There is no time to think.",
}


@dataclass(frozen=True, kw_only=True)
class Perturbed:
    """Every problem once for each of `templates`, whose names are in `info["perturbation"]`; for curriculum `qarl`.

    A template is put around the last message of the user: `{prompt}` is its text, `{number}` one from 2 to 99 that the
    problem's id decides and that is not its answer.
    """

    of: Mapping[str, Any] = field(hash=False)  # a dataset and its options
    templates: Mapping[str, str] = field(default_factory=lambda: dict(TEMPLATES), hash=False)

    def __post_init__(self) -> None:
        wrong = [name for name, template in self.templates.items() if PROMPT not in template]
        if not self.templates or wrong:
            raise ValueError(f"templates {', '.join(wrong) or 'are empty'}: expected texts with {PROMPT} in each")

    def problems(self) -> Iterator[Problem]:
        """Yield the problems in order, with ids that end in `#<template>`.

        Raises:
            DataError: the dataset cannot be read.
        """
        for problem in build("data", self.of, "data.of").problems():
            if "perturbation" in problem.info:
                raise DataError(f"problem {problem.id}: its data has a column 'perturbation' already; rename it")
            for name, template in self.templates.items():
                info = {**problem.info, "perturbation": name}
                yield replace(problem, id=f"{problem.id}#{name}", messages=_around(problem, template), info=info)


def _around(problem: Problem, template: str) -> list[Message]:
    """The problem's messages, the last of which is put into the template."""
    random, answer = Random(problem.id), (problem.answer or "").strip()
    number = next(drawn for _ in range(100) if (drawn := str(random.randint(2, 99))) != answer)
    *before, asked = problem.messages
    text = template.replace(NUMBER, number).replace(PROMPT, str(asked["content"]))
    return [*before, {**asked, "content": text}]


plugin = Perturbed
