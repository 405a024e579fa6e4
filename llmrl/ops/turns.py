"""Credit turn by turn: the return of each turn against those of its siblings in the same turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Literal

import numpy as np

from llmrl.ops.credit import Episode, divergence_as_k1, penalised
from llmrl.ops.gae import discounted, fold
from llmrl.samples import Array, Sample

CreditLevel = Literal["outcome", "turn"]
Centering = Callable[[Sequence[Sequence[float]]], Sequence[Sequence[float]]]
"""Advantages of groups of rewards, in the same order: `llmrl.ops.credit.center`, or leaving one out of each group."""


@dataclass(frozen=True, kw_only=True)
class TurnCredit:
    """Options of algorithms that compare the episodes of a group: as wholes, or turn by turn."""

    credit_level: CreditLevel = "outcome"  # outcome: all that an episode earned, for all of its tokens. turn: of a turn
    turn_discount: float = 1.0  # of the return of the next turn in that of a turn

    def check_turns(self) -> None:
        """Refuse a discount that no credit reads, or that is none."""
        if not 0 <= self.turn_discount <= 1:
            raise ValueError(f"turn_discount {self.turn_discount}: expected from 0 to 1")
        if self.credit_level == "outcome" and self.turn_discount != 1:
            raise ValueError(
                f"turn_discount {self.turn_discount}: an outcome has no turns; expected credit_level: turn"
            )

    def advantages(self, groups: Sequence[Sequence[Episode]], beta: float, centering: Centering) -> list[list[Sample]]:
        """The rows of each episode with their advantages, in the order of groups and episodes.

        Args:
            groups: episodes of a step.
            beta: weight of the divergence that is subtracted from rewards.
            centering: of rewards that are compared.
        """
        if self.credit_level == "turn":
            return _by_turn(groups, beta, self.turn_discount, centering)
        centered = centering([[penalised(episode, beta) for episode in group] for group in groups])
        return [
            [row.assign(advantages=advantage) for row in episode]
            for group, of_group in zip(groups, centered, strict=True)
            for episode, advantage in zip(group, of_group, strict=True)
        ]


def turn_returns(rewards: Sequence[float], discount: float) -> list[float]:
    """Returns of turns: `G[u] = r[u] + discount * G[u + 1]`."""
    returns: list[float] = discounted(np.asarray(rewards, np.float64), float(discount)).tolist()
    return returns


def rewards_at_ends(turn_ids: Array, turn_rewards: Sequence[float]) -> Array:
    """Rewards of turns at tokens: each at the last sampled token of its turn.

    Args:
        turn_ids: (T,) number of the turn that chose each token, -1 where none did; turns in any order.
        turn_rewards: by number.
    Returns:
        (T,) float64. The reward of a turn without a token stands at the last token before it, or at the first of all.
    """
    actions = (turn_ids >= 0).nonzero()[0]
    actions = actions[np.argsort(turn_ids[actions], kind="stable")]  # branches of an episode lie one behind another
    before = np.searchsorted(turn_ids[actions], np.arange(len(turn_rewards)), side="right")
    places = actions[np.maximum(before - 1, 0)]
    return np.bincount(places, np.asarray(turn_rewards, np.float64), len(turn_ids))


def earned_by_turn(episode: Episode, beta: float = 0.0) -> list[float]:
    """Rewards of the turns of an episode; what it earned besides them, its score, is of its last turn.

    The rewards of single tokens count in their turns, and beta times the k1 of each token is subtracted. NaN in all
    where the episode could not be judged.
    """
    first = episode[0]
    count = 1 + max(int(row.turn_ids.max(initial=0)) for row in episode)
    if isnan(first.reward):
        return [nan] * count
    rewards = np.zeros(count)
    given = np.asarray(first.turn_rewards[:count], np.float64)
    rewards[: len(given)] = given
    rewards[-1] += first.reward - given.sum()  # with those of turns that no row has
    for row in episode:
        mask = row.action_mask
        if "token_rewards" in row.columns:
            rewards += np.bincount(row.turn_ids[mask], fold(row.token_rewards, mask)[mask], count)
        if beta:
            rewards -= beta * np.bincount(row.turn_ids[mask], divergence_as_k1(row)[mask], count)
    return [float(reward) for reward in rewards]


def _by_turn(
    groups: Sequence[Sequence[Episode]], beta: float, discount: float, centering: Centering
) -> list[list[Sample]]:
    """Compare the return of each turn with those of the group's other episodes that reached it."""
    returns = [[turn_returns(earned_by_turn(episode, beta), discount) for episode in group] for group in groups]
    reached = [
        (group, turn)
        for group, of_group in enumerate(returns)
        for turn in range(max((len(own) for own in of_group), default=0))
    ]
    compared = [[own[turn] if turn < len(own) else nan for own in returns[group]] for group, turn in reached]
    advantages = dict(zip(reached, centering(compared), strict=True))
    made = []
    for number, group in enumerate(groups):
        for member, episode in enumerate(group):
            own = [advantages[number, turn][member] for turn in range(len(returns[number][member]))]
            made.append([_spread(row, own) for row in episode])
    return made


def _spread(row: Sample, advantages: Sequence[float]) -> Sample:
    """The row with the advantage of each turn at all of its tokens."""
    return row.assign(advantages=np.asarray(advantages)[np.maximum(row.turn_ids, 0)])
