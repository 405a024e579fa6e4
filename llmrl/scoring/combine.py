"""Combine the dense rewards of several scores, each with the weight of its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmrl.errors import RewardError
from llmrl.types import Score

Weighted = Sequence[tuple[float, Score]]


def dense(total: Score, parts: Weighted) -> Score:
    """Add to the total the weighted sum of its parts' dense rewards, of steps and of tokens.

    Steps of several parts that end at the same place are added. Steps without ends are logged and not rewarded; the
    steps of the first part that has any are kept.

    Raises:
        RewardError: two parts reward different numbers of tokens.
    """
    given = [(weight, score) for weight, score in parts if weight != 0 and score.value is not None]
    ends: dict[int, float] = {}
    stepwise = [(weight, score.step_ends, score.steps or ()) for weight, score in given if score.step_ends is not None]
    for weight, places, steps in stepwise:
        for end, step in zip(places, steps, strict=True):
            ends[end] = ends.get(end, 0.0) + weight * step
    if stepwise:
        total = replace(total, steps=[ends[end] for end in sorted(ends)], step_ends=sorted(ends))
    else:
        total = replace(total, steps=next((score.steps for _, score in parts if score.steps is not None), None))
    return replace(total, token_rewards=_tokens(given))


def on_last(score: Score, length: int) -> Score:
    """Move the value to a reward of the last of the completion's `length` tokens, if it has any."""
    if score.value is None or not length:
        return score
    rewards = list(score.token_rewards or [0.0] * length)
    rewards[-1] += score.value
    return replace(score, value=0.0, token_rewards=rewards)


def _tokens(given: Weighted) -> list[float] | None:
    columns = [[weight * r for r in score.token_rewards] for weight, score in given if score.token_rewards is not None]
    if len({len(column) for column in columns}) > 1:
        raise RewardError(
            f"parts of a mix reward {', '.join(str(len(column)) for column in columns)} tokens of one answer; expected "
            "as many as the last completion has"
        )
    return [sum(rewards) for rewards in zip(*columns, strict=True)] if columns else None
