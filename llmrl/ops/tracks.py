"""An episode as one sequence of tokens, whatever rows it takes: what a critic's algorithm gives credit to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, compress, pairwise

from llmrl.ops.credit import Episode
from llmrl.ops.gae import fold, moments
from llmrl.types import Sample


@dataclass(frozen=True, slots=True)
class EpisodeSequence:
    """The rows of an episode behind one another: where history was rewritten, a later prompt is an observation."""

    rows: Episode  # in the order in which they were played
    mask: list[bool]  # action_mask of all rows
    values: list[float]  # the critic's, of the state before each token
    rewards: Mapping[str, list[float]]  # by channel: what each token earned
    last: float = 0.0  # value of the state after the last action

    @property
    def actions(self) -> int:
        return sum(self.mask)

    @property
    def total(self) -> list[float]:
        """What each token earned, over all channels."""
        return list(map(sum, zip(*self.rewards.values(), strict=True)))

    def assign(self, **columns: Sequence[float]) -> list[Sample]:
        """The rows, each with its share of the columns, which have one number per token of the episode_sequence."""
        cuts = pairwise(accumulate([0, *(len(row.token_ids) for row in self.rows)]))
        return [
            row.assign(**{name: column[first:end] for name, column in columns.items()})
            for row, (first, end) in zip(self.rows, cuts, strict=True)
        ]


def episode_sequence(episode: Episode, *, bootstrap: bool = False, missing_eos_penalty: float = 0.0) -> EpisodeSequence:
    """The episode with its reward on its last action, and `token_rewards`, where it has any, where they were earned.

    Args:
        episode: rows that the critic has valued, with at least one action among them, in any order.
        bootstrap: give an episode that a token limit cut off the critic's value of the state in which it was left.
        missing_eos_penalty: subtracted from the reward of such an episode.
    """
    rows = sorted(episode, key=lambda row: max(row.turn_ids, default=-1))
    mask = list(chain.from_iterable(row.action_mask for row in rows))
    end = max(i for i, chosen in enumerate(mask) if chosen)
    truncated = any(row.truncated for row in rows)
    reward = [0.0] * len(mask)
    reward[end] = rows[0].reward - (missing_eos_penalty if truncated else 0.0)
    rewards = {"reward": reward}
    if any(row.token_rewards for row in rows):
        dense = chain.from_iterable(row.token_rewards or [0.0] * len(row.token_ids) for row in rows)
        rewards["token_rewards"] = fold(list(dense), mask)
    last = _column(rows, "next_values")[end] if bootstrap and truncated else 0.0
    return EpisodeSequence(rows, mask, _column(rows, "values"), rewards, last)


def value_profile(tracks: Sequence[EpisodeSequence]) -> dict[str, float]:
    """Mean value of all actions, and of the first, middle and last tenth of each episode's, at least one each."""
    parts: dict[str, list[float]] = {"mean": [], "first": [], "middle": [], "last": []}
    for one in tracks:
        known = list(compress(one.values, one.mask))
        tenth = max(1, len(known) // 10)
        middle = (len(known) - tenth) // 2
        parts["mean"] += known
        parts["first"] += known[:tenth]
        parts["middle"] += known[middle : middle + tenth]
        parts["last"] += known[-tenth:]
    return {f"values/{name}": moments(numbers)[0] for name, numbers in parts.items()}


def _column(rows: Episode, name: str) -> list[float]:
    return [number for row in rows for number in getattr(row, name) or [0.0] * len(row.token_ids)]
