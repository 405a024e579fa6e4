"""A reward around another, lowered where the text is cut off, repeats itself or is garbled."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from llmrl.answers.spelling import character_counts
from llmrl.plugins import build
from llmrl.rewards.repetition import repeated
from llmrl.scoring.manager import GradingPool
from llmrl.scoring.wrapped import Shaped, lifted
from llmrl.types import Score, Trajectory

MATHEMATICS = frozenset({"LATIN", "GREEK", "MATHEMATICAL", "MICRO", "COMBINING", "MODIFIER"})
"""Letters and marks that are symbols of mathematics everywhere, by the first word of their Unicode names."""
UNSPACED = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"})
"""Scripts that are written without spaces between words."""


@dataclass(frozen=True, kw_only=True)
class Degenerate:
    """The value of the reward `of`, but no more than `penalty` where the text repeats itself or is garbled.

    An answer that a token limit cut off gets `truncated`, right or wrong. Without `of` a sound answer gets 0: a penalty
    to put into a `mix`. The verdict is that of `of`, whose parts are kept; the parts `truncated`, `repeated` and
    `garbled` are 1.0 where a rule applied, so that their means are shares of the answers. Scores without a value stay.

    `repeated`: the share of runs of `ngram` tokens that occurred before, in one completion, is above `repeated_share`.
    `garbled`: the last text holds a replacement character; or more than `foreign_share` of their characters are neither
    mathematics, punctuation, digits nor of a script of the prompt; or `longest_run` characters stand without a space.
    """

    of: Mapping[str, Any] | None = field(default=None, hash=False)  # a reward and its options
    penalty: float = -1.0
    truncated: float | None = -1.0  # None: no such rule
    ngram: int = 20  # tokens
    repeated_share: float = 0.2
    foreign_share: float = 0.05
    longest_run: int = 200  # characters

    def __post_init__(self) -> None:
        if self.ngram < 1 or self.longest_run < 1:
            raise ValueError("ngram and longest_run must be at least 1")
        for name in ("repeated_share", "foreign_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected from 0 to 1")
        if self.of is not None:
            build("reward", self.of, "of")

    def as_group_reward(self, pool: GradingPool) -> Shaped:
        """Make the group reward around `of`."""
        return Shaped(Sound() if self.of is None else lifted(self.of, pool, "of"), self._lowered)

    def found(self, trajectory: Trajectory) -> dict[str, bool]:
        """Rules that an answer breaks, by name."""
        completions = [turn.completion.token_ids for turn in trajectory.own]
        repeats = max((repeated_share(ids, self.ngram) for ids in completions), default=0.0)
        return {
            "truncated": self.truncated is not None and trajectory.truncated,
            "repeated": repeats > self.repeated_share,
            "garbled": self._garbled(trajectory),
        }

    def _lowered(self, trajectory: Trajectory, score: Score) -> Score:
        """Lower a score that has a value, by the rules."""
        found, value = self.found(trajectory), score.value
        assert value is not None
        if found["repeated"] or found["garbled"]:
            value = min(value, self.penalty)
        if found["truncated"] and self.truncated is not None:
            value = self.truncated
        said = [score.reason] if score.reason else []
        said += [name for name, broken in found.items() if broken]
        parts = {**score.parts, **{name: float(broken) for name, broken in found.items()}}
        return replace(score, value=value, parts=parts, reason="; ".join(said))

    def _garbled(self, trajectory: Trajectory) -> bool:
        asked, text = _scripts(trajectory), trajectory.text
        return (
            "\ufffd" in text
            or foreign_share(text, asked) > self.foreign_share
            or longest_run(text, asked) >= self.longest_run
        )


class Sound:
    """Verifier of a reward without `of`: every answer has the value 0."""

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [Score(0.0)] * len(group)

    def latencies(self) -> dict[str, list[float]]:
        return {}


def repeated_share(token_ids: Sequence[int], n: int) -> float:
    """Share of runs of n tokens that equal an earlier one; 0.0 where there are fewer than n tokens."""
    again = repeated(token_ids, n)
    return 1.0 - again.count(False) / len(again) if again else 0.0


def foreign_share(text: str, scripts: frozenset[str]) -> float:
    """Share of the characters but spaces that belong neither to mathematics nor to one of the scripts."""
    counts = Counter({char: count for char, count in character_counts(text).items() if not char.isspace()})
    foreign = sum(count for char, count in counts.items() if not _common(char) and script(char) not in scripts)
    return foreign / counts.total() if counts else 0.0


def longest_run(text: str, scripts: frozenset[str]) -> int:
    """Longest run of characters without a space; characters of `scripts` written without spaces end a run."""
    if scripts & UNSPACED:
        text = "".join(" " if script(char) in scripts & UNSPACED else char for char in text)
    return max(map(len, re.findall(r"\S+", text)), default=0)


@lru_cache(maxsize=65536)
def script(char: str) -> str:
    """First word of the character's Unicode name, which for letters is their script: `LATIN`, `CYRILLIC`, `CJK`."""
    return unicodedata.name(char, "NONE").split(" ")[0]


@lru_cache(maxsize=65536)
def _common(char: str) -> bool:
    """Tell whether a character belongs to no script: digits, punctuation, mathematics, money, arrows, squares."""
    kind = unicodedata.category(char)
    if kind[0] in "NPZ" or kind in ("Sm", "Sc", "Sk") or char == "°":
        return True
    if (
        "\u2100" <= char <= "\u23ff" or "\u25a0" <= char <= "\u25ff"
    ):  # the blocks of ℝ and ℓ, of arrows, angles, squares
        return True
    return kind[0] in "LM" and script(char) in MATHEMATICS


def _scripts(trajectory: Trajectory) -> frozenset[str]:
    """Scripts of the letters in the messages to the policy."""
    told = [*trajectory.problem.messages, *(message for turn in trajectory.turns for message in turn.reply)]
    asked = "".join(str(message.get("content") or "") for message in told)
    return frozenset(script(char) for char in set(asked) if char.isalpha())


plugin = Degenerate
