"""Rewards of open-r1 without a counterpart in llmrl; formulas of its src/open_r1/rewards.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmrl.rewards.repetition import repeated
from llmrl.scoring.manager import GroupScorer
from llmrl.scoring.wrapped import right
from llmrl.types import Problem, Score, Trajectory

END = re.compile(r"\n</answer>$", re.MULTILINE)  # `$` also matches before a line that follows
TAGS = ("<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>")
ALL_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
STEPS = re.compile(r"Step \d+:|^\d+\.|\n-|\n\*|First,|Second,|Next,|Finally,")  # `^` is the text's beginning alone


def in_order(text: str, first: str, *others: str) -> bool:
    """Tell whether a text begins with `first`, holds the others behind it in order, and then a closing answer tag.

    As the expression `first.*?other.*?\\n</answer>$` of open-r1, but without trying each place of each part, and with
    each tag once: there, an answer within the thoughts has the form, too.
    """
    if not text.startswith(first) or any(text.count(tag) != 1 for tag in ALL_TAGS):
        return False
    at = len(first)
    for part in others:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return END.search(text, at) is not None


@dataclass(frozen=True)
class FormatReward:
    """1.0 if the text begins with think and answer tags, each on a line of its own; what may follow is a new line."""

    def __call__(self, problem: Problem, text: str) -> Score:
        return Score(float(in_order(text, "<think>\n", "\n</think>\n<answer>\n")))


@dataclass(frozen=True)
class CodeFormat:
    """1.0 if the text has the form of `FormatReward`, with a fenced block of the language in the answer."""

    language: str

    def __call__(self, problem: Problem, text: str) -> Score:
        language = str(problem.info.get("language") or self.language)
        return Score(float(in_order(text, "<think>\n", "\n</think>\n<answer>\n", f"```{language}", "```")))


@dataclass(frozen=True)
class TagCount:
    """A quarter for each of the four tags that occurs exactly once, with its line ends, behind the tags before it.

    Open-r1 pays for tags in any order.
    """

    def __call__(self, problem: Problem, text: str) -> Score:
        places = [text.find(tag) for tag in TAGS if text.count(tag) == 1]
        return Score(sum(place >= max(places[:n], default=0) for n, place in enumerate(places)) / 4)


@dataclass(frozen=True)
class ReasoningSteps:
    """A third for each sign of a step (numbers, bullets, words such as `First,`), at most 1."""

    def __call__(self, problem: Problem, text: str) -> Score:
        return Score(min(1.0, len(STEPS.findall(text)) / 3))


@dataclass(frozen=True)
class RepeatedWords:
    """(1 - distinct / all runs of `window` words) times `penalty`, without case; 0 for less than a run."""

    window: int
    penalty: float

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        again = [repeated(one.text.lower().split(), self.window) for one in group]
        return [Score(self.penalty * sum(runs) / len(runs) if runs else 0.0) for runs in again]


@dataclass
class LengthReward:
    """Reward by length within a group: 0.5 for the shortest to -0.5 for the longest; at most 0 if wrong.

    0 for all where all are as long. Source: Kimi k1.5, arXiv 2501.12599.
    """

    inner: GroupScorer  # who judges right and wrong

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        scores = await self.inner.score(group)
        lengths = [len(one.text) for one in group]
        return [
            self._one(score, length, min(lengths), max(lengths)) for score, length in zip(scores, lengths, strict=True)
        ]

    def _one(self, score: Score, length: int, shortest: int, longest: int) -> Score:
        if score.value is None:
            return score
        value = 0.5 - (length - shortest) / (longest - shortest) if longest > shortest else 0.0
        return replace(score, value=value if right(score, "open_r1", "length") else min(0.0, value))

    def latencies(self) -> dict[str, list[float]]:
        """Latencies of the inner reward."""
        return self.inner.latencies()
