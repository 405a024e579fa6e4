"""A source that generates its episodes: sampler x scheduler x filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from llmrl.rollout.filters import Filter
from llmrl.rollout.sampler import Draw, Played, Sampler
from llmrl.rollout.samples import to_samples, with_views
from llmrl.rollout.scheduler import Scheduler
from llmrl.samples import Sample
from llmrl.types import Trajectory


class RolloutSource:
    """Generates groups until a step has `prompts_per_step` that every filter wants; every rank has all of them."""

    def __init__(
        self,
        sampler: Sampler,
        scheduler: Scheduler,
        filters: Sequence[Filter] = (),
        *,
        prompts_per_step: int,
        max_refills: int,
        data: Mapping[str, Any],
    ) -> None:
        self.sampler = sampler
        self.scheduler = scheduler
        self._filters = filters
        self._groups_per_step = prompts_per_step
        self._max_refills = max_refills
        self.played: Sequence[Sequence[Trajectory]] = []  # the last step's, those that a filter refused included
        self.drawn: Sequence[Played] = []  # the last step's groups, each with its draw
        self.metrics: Mapping[str, float] = {}
        self.data = data
        self.refills = 0
        self._marked: Mapping[str, Any] = {}  # the sampler's state before a step

    def next(self, step: int) -> list[Sample]:
        """Generate a step's groups; return the samples of all ranks."""
        played: list[Played] = []
        wanted: list[bool] = []
        self.refills = 0
        while True:
            played += self.scheduler.play(step, self._groups_per_step - sum(wanted))
            wanted += [self._wanted(draw.uncut(group), step) for draw, group in played[len(wanted) :]]
            if sum(wanted) == self._groups_per_step or self.refills == self._max_refills:
                break
            self.refills += 1
        metrics = self.sampler.observe(step, played)
        groups = [group for _, group in played]
        for rule in self._filters:
            metrics |= rule.metrics(groups, step)
        made = [
            [_samples(draw, episode) if learned else [] for episode in group]
            for (draw, group), learned in zip(played, wanted, strict=True)
        ]
        self.drawn = played
        self.metrics = metrics | _splits([samples for parts in made for samples in parts])
        self.played = [
            [with_views(episode, samples) for episode, samples in zip(group, parts, strict=True)]
            for group, parts in zip(groups, made, strict=True)
        ]
        return [sample for parts in made for samples in parts for sample in samples]

    def samples_of(self, played: Sequence[Played], step: int) -> list[Sample]:
        """Samples of groups that a step has played, with whatever scores they have; of those that filters want."""
        wanted = [(draw, group) for draw, group in played if self._wanted(draw.uncut(group), step)]
        return [sample for draw, group in wanted for episode in group for sample in _samples(draw, episode)]

    def _wanted(self, group: Sequence[Trajectory], step: int) -> bool:
        return all(rule.wanted(group, step) for rule in self._filters)

    def timings(self) -> Mapping[str, float]:
        return self.scheduler.player.timings()

    def state(self) -> Mapping[str, Any]:
        return {"scheduler": self.scheduler.state(), "sampler": self.sampler.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.sampler.restore(state["sampler"])
        self.scheduler.restore(state["scheduler"])

    def mark(self) -> None:
        """Remember what there is before a step, for `rewind`."""
        self._marked = self.sampler.state()
        self.scheduler.mark()

    def rewind(self) -> None:
        """Go back to the last `mark`, also from the midst of a step: `next` will give it again."""
        self.sampler.restore(self._marked)
        self.scheduler.rewind()

    def close(self) -> None:
        """Cancel running episodes; safe to call twice."""
        self.scheduler.close()


def _splits(made: Sequence[Sequence[Sample]]) -> dict[str, float]:
    """Samples that an episode takes, where some take several: their history was rewritten."""
    counts = [len(samples) for samples in made if samples]
    return {"turns/samples": fmean(counts)} if any(count > 1 for count in counts) else {}


def _samples(draw: Draw, episode: Trajectory) -> list[Sample]:
    """Samples of an episode. One that a draw's shorter limit cut off has none: it is not wrong."""
    return [] if draw.cuts(episode) else to_samples(episode)
