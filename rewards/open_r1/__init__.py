"""Open-r1's rewards, by the names and options of its recipes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmrl.plugins import did_you_mean
from llmrl.rewards.cosine_length import half_cosine
from llmrl.rewards.mix import MixedReward
from llmrl.rewards.open_r1.functions import (
    CodeFormat,
    FormatReward,
    LengthReward,
    ReasoningSteps,
    RepeatedWords,
    TagCount,
)
from llmrl.rewards.soft_overlong import SoftOverlong
from llmrl.scoring.manager import GradingPool, GroupScorer, as_group_reward
from llmrl.scoring.wrapped import Shaped, lifted, right
from llmrl.types import Score, Trajectory

MATHS = {"name": "math_verify"}
TESTS = {"name": "code", "credit": "share"}
NAMES = (
    *("accuracy", "format", "tag_count", "reasoning_steps", "length", "cosine", "repetition_penalty"),
    *("soft_overlong_punishment", "code", "binary_code", "code_format"),
)
REFUSED = {"ioi_code": "a Piston or Morph server", "cf_code": "a Piston server"}


@dataclass(frozen=True, kw_only=True)
class OpenR1:
    """The weighted sum of `reward_funcs`; each is a part by its name.

    Formulas are those of open-r1's rewards.py; lengths are characters there, not tokens, but for
    `soft_overlong_punishment`. Differences on purpose: `math_verify` decides right and wrong, tests run as in the
    reward `code`, a group is the answers to one problem, and where the reference cannot be read there is no value.
    """

    reward_funcs: Sequence[str] = ("accuracy", "format", "tag_count")
    reward_weights: Sequence[float] | None = None  # 1 each
    cosine_min_value_wrong: float = 0.0  # at length 0
    cosine_max_value_wrong: float = -0.5  # at cosine_max_len
    cosine_min_value_correct: float = 0.5  # at cosine_max_len
    cosine_max_value_correct: float = 1.0  # at length 0
    cosine_max_len: int = 1000  # characters; the cosine climbs again beyond
    repetition_n_grams: int = 3  # words
    repetition_max_penalty: float = -1.0
    code_language: str = "python"  # of code_format, where a problem has no column `language`
    max_completion_len: int = 16384  # tokens, of soft_overlong_punishment
    soft_punish_cache: int = 4096

    def __post_init__(self) -> None:
        for name in self.reward_funcs:
            if name in REFUSED:
                raise ValueError(f"reward_funcs: {name} needs {REFUSED[name]}, which llmrl does not speak to")
            if name not in NAMES:
                raise ValueError(
                    f"reward_funcs: unknown {name!r}{did_you_mean(name, NAMES)}; known: {', '.join(NAMES)}"
                )
        if not self.reward_funcs or len(set(self.reward_funcs)) < len(self.reward_funcs):
            raise ValueError(f"reward_funcs {list(self.reward_funcs)}: expected at least one, each once")
        if not all(map(math.isfinite, self._weights)) or len(self._weights) != len(self.reward_funcs):
            raise ValueError(f"reward_weights {self.reward_weights}: expected one number for each of reward_funcs")
        if min(self.cosine_max_len, self.repetition_n_grams) < 1 or self.repetition_max_penalty > 0:
            raise ValueError("expected cosine_max_len and repetition_n_grams from 1, repetition_max_penalty at most 0")
        _ = SoftOverlong(limit=self.max_completion_len, cache=self.soft_punish_cache)

    @property
    def _weights(self) -> Sequence[float]:
        return [1.0] * len(self.reward_funcs) if self.reward_weights is None else self.reward_weights

    def as_group_reward(self, pool: GradingPool) -> MixedReward:
        """Make the group reward, with a group reward for every function."""
        names = self.reward_funcs
        return MixedReward(
            weights=dict(zip(names, self._weights, strict=True)),
            rewards={name: self._reward(name, pool) for name in names},
        )

    def _reward(self, name: str, pool: GradingPool) -> GroupScorer:
        match name:
            case "accuracy":
                return lifted(MATHS, pool, name)
            case "length":
                return LengthReward(lifted(MATHS, pool, name))
            case "cosine":
                return Shaped(lifted(MATHS, pool, name), self._cosine)
            case "code":
                return lifted(TESTS, pool, name)
            case "binary_code":
                return Shaped(lifted(TESTS, pool, name), _binary)
        return as_group_reward(
            {
                "format": FormatReward(),
                "tag_count": TagCount(),
                "reasoning_steps": ReasoningSteps(),
                "repetition_penalty": RepeatedWords(self.repetition_n_grams, self.repetition_max_penalty),
                "soft_overlong_punishment": SoftOverlong(limit=self.max_completion_len, cache=self.soft_punish_cache),
                "code_format": CodeFormat(self.code_language),
            }[name],
            pool,
        )

    def _cosine(self, trajectory: Trajectory, score: Score) -> Score:
        correct, share = right(score, "open_r1", "cosine"), len(trajectory.text) / self.cosine_max_len
        start, end = self.cosine_min_value_wrong, self.cosine_max_value_wrong
        if correct:
            start, end = self.cosine_max_value_correct, self.cosine_min_value_correct
        parts = {"exceeded": float(share > 1)}
        return replace(score, value=half_cosine(start, end, share), parts=parts)


def _binary(trajectory: Trajectory, score: Score) -> Score:
    """Round a share of passed tests: 1.0 above 0.99, else 0.0."""
    assert score.value is not None, "`Shaped` keeps what could not be judged"
    return replace(score, value=float(score.value > 0.99))


plugin = OpenR1
