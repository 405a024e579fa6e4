"""Dense rewards of several scores as one: each weighs what its score weighs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmrl.errors import RewardError
from llmrl.types import Score

Weighted = Sequence[tuple[float, Score]]


def dense(total: Score, parts: Weighted) -> Score:
    """The total with the weighted sum of its parts' dense rewards, those of steps and those of tokens.

    Steps of several parts that end at one place are one. Steps without ends are scores to look at and no rewards; those
    of the first part that has them are kept.

    Raises:
        RewardError: two parts reward different numbers of tokens.
    """
    given = [(weight, score) for weight, score in parts if weight != 0 and score.value is not None]
    ends: dict[int, float] = {}
    paid = [(weight, score.step_ends, score.steps or ()) for weight, score in given if score.step_ends is not None]
    for weight, places, steps in paid:
        for end, step in zip(places, steps, strict=True):
            ends[end] = ends.get(end, 0.0) + weight * step
    if paid:
        total = replace(total, steps=[ends[end] for end in sorted(ends)], step_ends=sorted(ends))
    else:
        total = replace(total, steps=next((score.steps for _, score in parts if score.steps is not None), None))
    return replace(total, token_rewards=_tokens(given))


def on_last(score: Score, length: int) -> Score:
    """The same, with the value as a reward of the last of the completion's `length` tokens, if it has any."""
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
