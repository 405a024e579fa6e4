"""Penalty for a repeated run of tokens, at its tokens or once for the whole answer."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from llmrl.types import Score, Trajectory

PENALTIES = {"dense": -0.05, "sequence": -1.0}


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """`dense`: every token of a run of `window` tokens that occurred before gets `penalty`, as a reward of its own.

    `sequence`: the answer gets (1 - distinct runs / runs) * `penalty`. Runs are of token ids of the last completion; an
    answer shorter than a run is not repetitive. Part: `repeated`, the share of the answer's runs that occurred before.
    Source: arXiv 2502.03373, section 4.4; the sequence form is also TRL's.
    """

    form: Literal["dense", "sequence"] = "dense"
    window: int = 40  # tokens of a run
    penalty: float | None = None  # at most 0; None: -0.05 a token (dense), -1.0 at most (sequence)

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window {self.window}: expected at least 1 token")
        if self.penalty is not None and self.penalty > 0:
            raise ValueError(f"penalty {self.penalty}: expected at most 0, or repetition would be paid")

    @property
    def cost(self) -> float:
        """Penalty in force: the option, or the form's own."""
        return PENALTIES[self.form] if self.penalty is None else self.penalty

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        return [self.of([] if t.last is None else t.last.completion.token_ids) for t in group]

    def of(self, token_ids: Sequence[int]) -> Score:
        """Score an answer."""
        again = repeated(token_ids, self.window)
        share = sum(again) / len(again) if again else 0.0
        parts, reason = {"repeated": share}, f"{sum(again)} of {len(again)} runs of {self.window} tokens said before"
        if self.form == "sequence":
            return Score(share * self.cost, parts=parts, reason=reason)
        rewards, start = [0.0] * len(token_ids), 0
        for said, runs in groupby(again):
            end = start + sum(1 for _ in runs)
            if said:
                rewards[start : end + self.window - 1] = [self.cost] * (end - start + self.window - 1)
            start = end
        return Score(0.0, parts=parts, token_rewards=rewards, reason=reason)


def repeated(tokens: Sequence[Hashable], window: int) -> list[bool]:
    """Tell of each run of `window` tokens or words whether it occurred before; empty for less than a run."""
    if len(tokens) < window:
        return []
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    names, size = np.fromiter(map(ids.__getitem__, tokens), np.int64, len(tokens)), 1
    while size < window:  # a run of up to twice the size is named by the names of the two that it consists of
        step = min(size, window - size)
        names = np.unique(names[:-step] * len(tokens) + names[step:], return_inverse=True)[1]
        size += step
    again = np.ones(len(names), dtype=bool)
    again[np.unique(names, return_index=True)[1]] = False
    return list(again.tolist())


plugin = Repetition
