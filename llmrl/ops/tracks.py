"""An episode as one sequence of tokens, whatever samples it takes: what a critic's algorithm gives credit to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmrl.ops.credit import Episode
from llmrl.ops.gae import RunningMoments, fold, spread
from llmrl.ops.turns import CreditLevel, rewards_at_ends
from llmrl.samples import Array, Sample


@dataclass(frozen=True, slots=True)
class EpisodeSequence:
    """The samples of an episode behind one another: where history was rewritten, a later prompt is an observation."""

    rows: Episode  # in the order of their turns
    turn_ids: Array  # of all rows
    mask: Array  # action_mask of all rows
    rewards: Mapping[str, Array]  # by channel: the reward of each token
    last: float = 0.0  # value of the state after the last action

    @property
    def values(self) -> Array:
        """The critic's numbers of the state before each token."""
        return np.concatenate([row.values for row in self.rows])

    @property
    def actions(self) -> int:
        return int(np.count_nonzero(self.mask))

    def discounts(self, gamma: float, turn: float) -> float | Array:
        """Discount of the step from each action to the next: gamma, and `turn` besides where the next turn begins.

        Returns:
            A number where turns are not discounted, else (T,) float64. Behind the last action another turn begins,
            unless a token limit ended the episode within it.
        """
        if turn == 1.0:
            return gamma
        of_actions = self.turn_ids[self.mask]
        ends = np.append(of_actions[1:] != of_actions[:-1], self.rows[-1].status != "max_tokens")
        return spread(np.where(ends, gamma * turn, gamma), self.mask)

    @property
    def total(self) -> Array:
        """Reward of each token, summed over channels."""
        earned: Array = np.add.reduce(list(self.rewards.values()))
        return earned

    def assign(self, **columns: Array) -> list[Sample]:
        """The rows, each with its share of the columns, which have one number per token of the sequence."""
        ends = np.cumsum([len(row.token_ids) for row in self.rows])
        shares = {name: np.split(column, ends[:-1]) for name, column in columns.items()}
        return [row.assign(**{name: share[i] for name, share in shares.items()}) for i, row in enumerate(self.rows)]


def episode_sequence(
    episode: Episode, *, level: CreditLevel = "turn", bootstrap: bool = False, missing_eos_penalty: float = 0.0
) -> EpisodeSequence:
    """The episode with its score on its last action, and the rewards of turns on the last action of each.

    The channel `token_rewards`, where it has any, has them where they were earned.

    Args:
        episode: rows with at least one action among them, in any order.
        level: "outcome" puts the rewards of turns on the last action of the episode, too.
        bootstrap: give an episode that a limit cut off the critic's value of the state in which it was left.
        missing_eos_penalty: subtracted from the reward of an episode that a token limit cut off.
    """
    rows = sorted(episode, key=lambda row: int(row.turn_ids.max(initial=-1)))
    turn_ids = np.concatenate([row.turn_ids for row in rows])
    mask = turn_ids >= 0
    end = int(mask.nonzero()[0][-1])
    truncated = any(row.truncated for row in rows)
    cut_off = any(row.cut_off for row in rows)
    turns = rows[0].turn_rewards if level == "turn" else ()
    reward = rewards_at_ends(turn_ids, turns) if any(turns) else np.zeros(len(mask))
    reward[end] += rows[0].reward - sum(turns) - (missing_eos_penalty if truncated else 0.0)
    rewards = {"reward": reward}
    if any("token_rewards" in row.columns for row in rows):
        dense = [row.get("token_rewards", np.zeros(len(row.token_ids))) for row in rows]
        rewards["token_rewards"] = fold(np.concatenate(dense), mask)
    last = np.concatenate([row.last_values for row in rows])[end] if bootstrap and cut_off else 0.0
    return EpisodeSequence(rows, turn_ids, mask, rewards, float(last))


class ValueProfile:
    """Mean value of all actions, and of the first, middle and last tenth of each episode's, at least one each."""

    def __init__(self) -> None:
        self._parts = {name: RunningMoments() for name in ("mean", "first", "middle", "last")}

    def add(self, values: Array) -> None:
        """Take in the values of an episode's actions."""
        tenth = max(1, len(values) // 10)
        middle = (len(values) - tenth) // 2
        tenths = {"first": values[:tenth], "middle": values[middle : middle + tenth], "last": values[-tenth:]}
        for name, part in {"mean": values, **tenths}.items():
            self._parts[name].add(part)

    def metrics(self) -> dict[str, float]:
        """`values/mean`, `values/first`, ...; 0.0 without an episode."""
        return {f"values/{name}": part.mean for name, part in self._parts.items()}
