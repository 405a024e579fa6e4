"""Variety of a text, by counts of its words: measures to compare with a reward, never a reward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import Any

from llmrl.answers.spelling import LowerWords
from llmrl.types import Problem, Score

WORDS = LowerWords(r"[^\W_]")


@dataclass(frozen=True)
class Naturalness:
    """Measures of an answer's words as `parts`, and never a value: with weight 0 in a mix they are only logged.

    distinct_1, distinct_2: different words and pairs, as a share of all. entropy_1, entropy_2: of the words and pairs
    of the answer, in bits. msttr: mean share of different words in stretches of `stretch`. words, vocabulary: how many,
    and how many different. A measure for which a text is too short is missing, not 0. A policy that raises a reward by
    repeating itself lowers these measures.

    Source: the panel of GRUE, Ramamurthy et al. 2022 (arXiv 2210.01241), over single answers.
    """

    stretch: int = 50  # words

    def __post_init__(self) -> None:
        if self.stretch < 2:
            raise ValueError(f"stretch {self.stretch}: expected at least 2 words")

    def __call__(self, problem: Problem, text: str) -> Score:
        return Score(
            None, parts=measures(text, self.stretch), reason="measured, never paid: expected weight 0 in a mix"
        )


def measures(text: str, stretch: int = 50) -> dict[str, float | None]:
    """Measures of a text, by name; None where it has too few words."""
    words = WORDS.of(text)
    singles, pairs = Counter(words), Counter(pairwise(words))
    return {
        "distinct_1": _distinct(singles),
        "distinct_2": _distinct(pairs),
        "entropy_1": _entropy(singles),
        "entropy_2": _entropy(pairs),
        "msttr": _segmental(words, stretch),
        "words": float(len(words)),
        "vocabulary": float(len(singles)),
    }


def _distinct(counts: Counter[Any]) -> float | None:
    return len(counts) / counts.total() if counts else None


def _entropy(counts: Counter[Any]) -> float | None:
    total = counts.total()
    return -sum(n / total * log2(n / total) for n in counts.values()) + 0.0 if counts else None


def _segmental(words: Sequence[str], stretch: int) -> float | None:
    """Mean over whole stretches; the rest at the end does not count."""
    whole = [words[i : i + stretch] for i in range(0, len(words) - stretch + 1, stretch)]
    return sum(len(set(part)) for part in whole) / (stretch * len(whole)) if whole else None


plugin = Naturalness
