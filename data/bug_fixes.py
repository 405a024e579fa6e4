"""Functions of one line to repair, generated: the software-engineering task that fits on a CPU."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from llmrl.recipe.ranges import Seed
from llmrl.swe.bugs import ARGUMENTS, MODULES, Bug, bugs
from llmrl.types import Problem

HELD_OUT = 0.2  # of all tasks; a constant, so that no two settings can disagree on the held-out ones


@dataclass(frozen=True, kw_only=True)
class BugFixes:
    """Tasks of a file with a function that returns the wrong expression, in an order drawn by `seed`: 1,344 in all.

    `info` has what the rewards `swe_similarity` and `swe_tests` and the environment `swe` read; `answer` is a repair in
    SWE-RL's form, to imitate. Held-out tasks depend on nothing but the task itself.
    """

    split: Literal["train", "heldout"] = "train"
    count: int | None = None  # the first so many; None: all there are
    seed: Seed = 0  # of the order
    modules: int = 4  # names of files, at most 4
    arguments: int = 6  # pairs of names of arguments, at most 6; each module and pair has 56 tasks
    template: str = "{issue}\n### {path}\n{text}"

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count {self.count}: expected at least 1, or none for all there are")
        if not (1 <= self.modules <= len(MODULES) and 1 <= self.arguments <= len(ARGUMENTS)):
            raise ValueError(f"modules {self.modules}, arguments {self.arguments}: expected 1 to 4, and 1 to 6")

    def problems(self) -> Iterator[Problem]:
        """Yield at most `count` problems."""
        chosen = [bug for bug in bugs(self.modules, self.arguments) if is_held_out(bug) == (self.split == "heldout")]
        random.Random(self.seed).shuffle(chosen)
        return islice(map(self._problem, chosen), self.count)

    def _problem(self, bug: Bug) -> Problem:
        shown = self.template.format(issue=bug.issue(), path=bug.path, text=bug.text(bug.wrong))
        messages = [{"role": "user", "content": shown}]
        return Problem(id=f"bug_fixes/{bug.id}", messages=messages, answer=bug.repair(), info=bug.info())


def is_held_out(bug: Bug) -> bool:
    """Tell whether this task belongs to the held-out share."""
    digest = hashlib.blake2b(bug.id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) < HELD_OUT * 2**64


plugin = BugFixes
