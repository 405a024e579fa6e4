"""Options and problems for the attacks on each reward that ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from llmrl import plugins
from llmrl.checks.attacks import hostile_code
from llmrl.checks.attacks.problems import BUG, CAPITAL, LARGER, OPTIONS, SCHEMA, SENTENCES, Known, edit, known
from llmrl.errors import DataError
from llmrl.swe.edits import read_edits, write_edits
from llmrl.types import Problem

PROBLEMS = 3
"""Rows of a dataset that a reward is attacked with, unless the command line sets another number."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Problems and options for the attacks on a reward."""

    problems: Callable[[], list[Known]]
    options: Mapping[str, Any] = field(default_factory=dict)  # without a default, and an inner reward if it needs one
    info: Mapping[str, Any] = field(default_factory=dict)  # columns that the reward reads besides
    needs: str = ""  # without options the reward is left out, for want of this

    def known(self) -> list[Known]:
        """The problems, with the columns that the reward reads."""
        return [
            replace(known, problem=replace(known.problem, info={**known.problem.info, **self.info}))
            if self.info
            else known
            for known in self.problems()
        ]


def rows(data: Mapping[str, Any] | str, count: int = PROBLEMS) -> list[Known]:
    """Read the first problems of a dataset.

    Raises:
        RecipeError, DataError: there is no such dataset, it is empty, or a problem has no right answer.
    """
    from llmrl.datagen.contamination import named

    found = [known(problem) for problem in islice(named(data).problems(), count)]
    if not found:
        raise DataError(f"data {data!r}: has no problems to attack a reward with")
    return found


def numbers() -> list[Known]:
    """Word problems with a whole number for an answer."""
    return [*rows("gsm8k/tiny"), known(LARGER)]


def values() -> list[Known]:
    """Word problems with a whole number for an answer, and formulas."""
    return [*numbers(), *rows("math/tiny")]


def puzzles() -> list[Known]:
    """Expressions of given numbers. The first puzzle is left out: the example in its prompt is its answer."""
    return rows("countdown/tiny", PROBLEMS + 1)[1:]


def games() -> list[Known]:
    """The game of 24."""
    return rows("game24/tiny")


def words() -> list[Known]:
    """Short answers: a word, and numbers."""
    return [known(CAPITAL), *numbers()]


def choices() -> list[Known]:
    """Multiple choice: a letter of four."""
    return [known(OPTIONS)]


def objects() -> list[Known]:
    """An object of a schema."""
    return [Known(problem=SCHEMA, right='{"legs": 8}', wrong=['{"legs": "many"}'], kind="json")]


def edits() -> list[Known]:
    """A repair of one line."""
    line, repaired = "    return total / 2", "    return total / len(numbers)"
    right, wrong = edit(line, repaired), edit("    return number / 2", "    return number // 2")
    return [Known(problem=BUG, right=right, wrong=[wrong], kind="edit")]


def repairs() -> list[Known]:
    """A repair of one line, with tests."""
    problem = next(iter(plugins.build("data", "bug_fixes").problems()))
    (block,) = read_edits(problem.answer or "")
    (line,) = block.search
    wrong = [edit(line, "    return 0", block.path), edit(line, "    return None", block.path)]
    return [Known(problem=problem, right=write_edits([block]), wrong=wrong, kind="repair")]


def programs() -> list[Known]:
    """Functions with tests, one of which is the problem of the hostile programs."""
    hostile_one = Known(
        problem=hostile_code.PROBLEM, right=hostile_code.HONEST, wrong=["def add(a, b):\n    return a"], kind="code"
    )
    return [hostile_one, *rows("mbpp/tiny", 1), *rows("humaneval/tiny", 1)]


def sentences() -> list[Known]:
    """Sentences with given words."""
    return [
        known(
            Problem(
                id=f"audit/{words.replace(' ', '-')}",
                messages=[{"role": "user", "content": f"Write one plain sentence with these words: {words}."}],
                info={"words": words.split(), "sentence": sentence},
            )
        )
        for words, sentence in SENTENCES
    ]


SETUPS: Mapping[str, Setup] = {
    "behaviour_judge": Setup(problems=values, needs="a language model behind `url`"),
    "by_source": Setup(
        problems=values, options={"sources": {"audit": {"name": "math_verify"}}}, info={"source": "audit"}
    ),
    "choice": Setup(problems=choices),
    "code": Setup(problems=programs),
    "cosine_length": Setup(problems=values, options={"max_length": 4096}),
    "countdown": Setup(problems=puzzles),
    "coverage": Setup(problems=sentences),
    "degenerate": Setup(problems=values, options={"of": {"name": "math_verify"}}),
    "environment": Setup(problems=values, needs="an environment that judges its episodes"),
    "exact": Setup(problems=words),
    "game24": Setup(problems=games),
    "heron": Setup(
        problems=values, options={"factors": [{"name": "math_verify"}, {"name": "length", "sign": -1, "threshold": 4}]}
    ),
    "json_schema": Setup(problems=objects),
    "judge": Setup(problems=values, needs="a language model behind `url`"),
    "length_scaled": Setup(problems=values, options={"max_length": 4096}),
    "math_verify": Setup(problems=values),
    "mix": Setup(problems=values, options={"parts": {"math_verify": 1.0, "format": 0.1}}),
    "openrlhf": Setup(problems=numbers, needs="a `function` of your own"),
    "process_model": Setup(problems=values, needs="a trained model at `path`"),
    "reasoning_gym": Setup(problems=numbers, needs="problems of the extra `reasoning-gym`"),
    "remote": Setup(problems=values, needs="a server of `llmrl serve-reward` at `url`"),
    "reward_model": Setup(problems=values, needs="a trained model at `path`"),
    "rlsp": Setup(problems=values),
    "salmon": Setup(problems=values, needs="a trained model at `path`"),
    "soft_overlong": Setup(problems=values, options={"limit": 4096, "cache": 2048}),
    "success_model": Setup(problems=values, needs="a trained model at `path`"),
    "vlm_rm": Setup(problems=values, needs="a CLIP model at `path`, and pictures: it reads no text"),
    "swe_patch": Setup(problems=edits, needs="a patch of SWE-bench: it measures, and pays nothing"),
    "swe_similarity": Setup(problems=edits),
    "swe_tests": Setup(problems=repairs, options={"timeout_s": 5.0}),
    "token_model": Setup(problems=values, needs="a trained model at `path`"),
    "trl": Setup(problems=numbers, needs="a `function` of your own"),
    "value_rank": Setup(problems=values, needs="a run of `bcoder` at `path`"),
    "verifiers": Setup(problems=numbers, needs="a `rubric` of your own"),
    "verl": Setup(problems=numbers, needs="a `function` of your own"),
}
"""By name; a reward that is not here has no options to set and is asked for whole numbers."""
NUMBERS = Setup(problems=numbers)


def setup(name: str) -> Setup:
    """Setup of a reward that ships; for others whole numbers."""
    return SETUPS.get(name, NUMBERS)


def unknown() -> list[str]:
    """Names in the table that are no rewards."""
    return sorted(set(SETUPS) - set(plugins.names("reward")))


__all__: Sequence[str] = ["PROBLEMS", "SETUPS", "Setup", "rows", "setup", "unknown"]
