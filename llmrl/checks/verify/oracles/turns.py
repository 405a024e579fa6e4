"""Turns by their equations (docs/turns.md), one token at a time, without `llmrl.ops`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmrl.samples import Sample

Compared = Callable[[Sequence[str], Sequence[float]], Sequence[float]]
"""Advantages of rewards by their groups."""


def last_tokens(row: Sample) -> list[int]:
    """Index of the last token of each turn."""
    ends: dict[int, int] = {}
    for t, turn in enumerate(row.turn_ids.tolist()):
        if turn >= 0:
            ends[turn] = t
    return [ends[turn] for turn in sorted(ends)]


def by_turn(row: Sample) -> list[float]:
    """Rewards of turns: the environment's, those of their tokens, and in the last the score of the episode."""
    ends = last_tokens(row)
    rewards = [float(reward) for reward in row.turn_rewards]
    rewards[-1] += row.reward - sum(row.turn_rewards)
    for t, reward in enumerate(row.get("token_rewards", ())):  # at an observation: it belongs to the action before
        turns = [turn for turn in row.turn_ids.tolist()[: t + 1] if turn >= 0]
        rewards[turns[-1] if turns else 0] += reward
    return rewards if ends else []


def discounted(rewards: Sequence[float], discount: float) -> list[float]:
    """Sum over k of discount^k r[u + k], written out."""
    count = len(rewards)
    return [sum(discount ** (k - u) * rewards[k] for k in range(u, count)) for u in range(count)]


def advantages_of_turns(
    rows: Sequence[Sample], costs: Sequence[Sequence[float]], discount: float, compared: Compared
) -> list[list[float]]:
    """Advantage of each token: that of its turn, compared with the same turn of the group's other episodes.

    Args:
        rows: one of each episode.
        costs: subtracted from the rewards, of each token.
        discount: of a turn.
        compared: gives the advantages of the returns of one turn.
    """
    returns = []
    for row, cost in zip(rows, costs, strict=True):
        rewards = by_turn(row)
        for t, turn in enumerate(row.turn_ids.tolist()):
            if turn >= 0:
                rewards[turn] -= cost[t]
        returns.append(discounted(rewards, discount))
    places = [(row.group, turn) for row, own in zip(rows, returns, strict=True) for turn in range(len(own))]
    found = compared([f"{group}/{turn}" for group, turn in places], [g for own in returns for g in own])
    answer = iter(found)
    of_turns = [[next(answer) for _ in own] for own in returns]
    return [
        [own[turn] if turn >= 0 else 0.0 for turn in row.turn_ids.tolist()]
        for row, own in zip(rows, of_turns, strict=True)
    ]
