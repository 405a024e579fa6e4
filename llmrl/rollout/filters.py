"""Filters: they choose the groups that a step learns from; the others are replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from llmrl.types import Trajectory


class Filter(Protocol):
    """Judges a group by itself, alike on every rank."""

    def wanted(self, group: Sequence[Trajectory], step: int) -> bool:
        """Tell if a step learns from the group."""
        ...

    def metrics(self, groups: Sequence[Sequence[Trajectory]], step: int) -> dict[str, float]:
        """Describe all groups that were generated for a step."""
        ...


@dataclass(frozen=True)
class DynamicSampling:
    """Refuses groups that are all right or all wrong: they have no advantage (DAPO, arXiv 2503.14476)."""

    def wanted(self, group: Sequence[Trajectory], step: int) -> bool:
        return informative(group)

    def metrics(self, groups: Sequence[Sequence[Trajectory]], step: int) -> dict[str, float]:
        return {}


@dataclass(frozen=True)
class Staleness:
    """Refuses groups with a token from weights that lie more than `bound` versions behind the step."""

    bound: int

    def wanted(self, group: Sequence[Trajectory], step: int) -> bool:
        return _lag(group, step) <= self.bound

    def metrics(self, groups: Sequence[Sequence[Trajectory]], step: int) -> dict[str, float]:
        return lag_metrics(groups, step, self.bound)


def informative(group: Sequence[Trajectory]) -> bool:
    """Tell if some episodes succeeded and some failed: by verdict where each has one, else by different rewards.

    The rewards of turns count, those of each agent by themselves. Shaped scores would make wrong answers of different
    lengths look informative.
    """
    scored = [
        (tuple(episode.outcome.items()), episode.score.correct)
        for episode in group
        if episode.score is not None and episode.earned is not None
    ]
    verdicts = {correct for _, correct in scored}
    return len({earned for earned, _ in scored} if None in verdicts else verdicts) > 1


def lag_metrics(groups: Sequence[Sequence[Trajectory]], step: int, bound: int) -> dict[str, float]:
    """Describe a step's episodes, by how many versions the weights that began them lie behind the step.

    A group with a token beyond `bound` is not learned from: it is counted, with its length and its share of right ones.
    """
    episodes = [
        (step - episode.version, episode) for group in groups for episode in group if episode.version is not None
    ]
    late = [group for group in groups if _lag(group, step) > bound]
    metrics = {"staleness/dropped": float(len(late))}
    metrics |= _alike("staleness/dropped", [episode for group in late for episode in group if episode.turns])
    for lag in sorted({lag for lag, _ in episodes}):
        alike = [episode for began, episode in episodes if began == lag]
        metrics[f"staleness/lag_{lag}/frac"] = len(alike) / len(episodes)
        metrics |= _alike(f"staleness/lag_{lag}", alike)
    return metrics


def _alike(name: str, episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Mean length, and share of right ones where anybody judged."""
    lengths = [sum(len(turn.completion.token_ids) for turn in episode.turns) for episode in episodes]
    judged = [
        episode.score.correct for episode in episodes if episode.score is not None and episode.score.correct is not None
    ]
    metrics = {f"{name}/mean_length": fmean(lengths)} if lengths else {}
    return metrics | ({f"{name}/accuracy": fmean(judged)} if judged else {})


def _lag(group: Sequence[Trajectory], step: int) -> int:
    """Versions between the step and the policy's oldest token in the group; 0 where there is none."""
    own = [turn for episode in group for turn in episode.own]
    completions = [turn.completion for turn in own if turn.completion.token_ids]
    return max((step - min(completion.versions or (completion.version,)) for completion in completions), default=0)
