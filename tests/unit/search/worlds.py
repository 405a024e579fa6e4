"""Searches in a world of words: a scripted engine whose replies depend on prompt and seed, and judges of texts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from random import Random
from statistics import fmean
from string import ascii_lowercase
from typing import Any

from llmrl.chat import Chat
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.plugins import build
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.searcher import Searched, Searcher
from llmrl.tiny import make_tokenizer
from llmrl.types import Problem, Sampling, Score, Trajectory

TOKENIZER = make_tokenizer()
CHAT = Chat(TOKENIZER)
ASKED = "<|assistant|>"
PROBLEM = Problem(
    id="p", messages=[{"role": "user", "content": "2+2?"}], answer="CANARY-4", info={"solution": "CANARY-info"}
)


@dataclass
class TextJudge:
    """A reward of texts that remembers what it was shown."""

    value: Callable[[str], float | None]
    shown: list[Trajectory] = field(default_factory=list)

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        self.shown += group
        return [Score(self.value(one.text)) for one in group]


def engine(replies: Any, end: bool = True) -> ScriptedEngine:
    """An engine that answers by `replies`: texts in turn, or a function of the answer so far and the sampling."""
    written = replies if not callable(replies) else lambda prompt, s: replies(prompt.rpartition(ASKED)[2], s)
    options = Scripted(replies=written, end=end, logprob=-0.5)
    return ScriptedEngine(tokenizer=TOKENIZER, options=options, stop_token_ids=[TOKENIZER.eos_token_id])


def search(
    spec: Any,
    replies: Any,
    value: Callable[[str], float | None] | None = None,
    *,
    problem: Problem = PROBLEM,
    budget: int | None = None,
    **sampling: Any,
) -> Searched:
    """Play a strategy; its judge gives `value` of a text."""
    strategy = build("search", spec, "search") if isinstance(spec, dict | str) else spec
    judge = None if value is None else AnswerJudge(TextJudge(value))
    asked = replies if isinstance(replies, ScriptedEngine) else engine(replies)
    searcher = Searcher(engine=asked, chat=CHAT, strategy=strategy, judge=judge, budget=budget)
    return asyncio.run(searcher.play(problem, Sampling(**{"max_tokens": 64, "seed": 3} | sampling)))


@dataclass
class Letters:
    """A tree of letters, a line for each step: child k of every node is letter k; a leaf is a word of `depth` letters.

    The engine that speaks it tries the children of a node in turn. Values of beginnings and leaves come from `leaves`.
    """

    branch: int
    depth: int
    leaves: dict[str, float]  # by word
    asked: Counter[str] = field(default_factory=Counter)

    @classmethod
    def random(cls, seed: int, branch: int, depth: int) -> Letters:
        draw = Random(seed)
        words = map("".join, product(ascii_lowercase[:branch], repeat=depth))
        return cls(branch, depth, {word: draw.random() for word in words})

    def reply(self, prefix: str, sampling: Sampling) -> str:
        letter = ascii_lowercase[self.asked[prefix] % self.branch]
        self.asked[prefix] += 1
        return letter if prefix.count("\n") == self.depth - 1 else f"{letter}\n"

    def best_below(self, text: str) -> float:
        """The highest value of a leaf below a beginning: by looking at every leaf."""
        return max(value for word, value in self.leaves.items() if word.startswith(word_of(text)))

    def mean_below(self, text: str) -> float:
        """The value of a beginning under a policy that goes on at random."""
        return fmean(value for word, value in self.leaves.items() if word.startswith(word_of(text)))

    @property
    def optimum(self) -> str:
        return max(self.leaves, key=self.leaves.__getitem__)


def word_of(text: str) -> str:
    return text.replace("\n", "")
