"""Samples that were begun before the step that learns from them: generation overlaps training."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean
from typing import Any

from llmrl import aio
from llmrl.samples import Sample
from llmrl.sources.online import Groups, Online, OnlineSource, SourceContext
from llmrl.trajectories import from_tree, to_tree
from llmrl.types import Trajectory


@dataclass(frozen=True)
class Asynchronous(Online):
    """`online`, playing ahead: a step's groups may be up to `max_staleness` versions of the weights old.

    The rule is AReaL's (arXiv 2505.24298): what may be begun is bounded by what the steps to come can take in time.
    """

    max_staleness: int = 1  # steps; 0 plays as `online` does and gives the same samples
    max_inflight_tasks: int | None = None  # groups that a process plays at once; None: as many as staleness allows

    def __post_init__(self) -> None:
        if self.max_staleness < 0 or (self.max_inflight_tasks is not None and self.max_inflight_tasks < 1):
            raise ValueError("max_staleness must be at least 0, max_inflight_tasks at least 1")

    @property
    def overlaps(self) -> bool:
        """Whether the engine is asked to generate while the trainer learns."""
        return self.max_staleness > 0

    def open(self, context: SourceContext) -> AsyncSource:
        """The player of groups ahead of their step, in the background where it overlaps."""
        if self.overlaps:
            aio.background()
        return AsyncSource(self, context)


class AsyncSource(OnlineSource):
    """Groups are begun in the order of the stream and learned from in that order, however long each takes.

    Waiting for the oldest keeps what is slow: a source that took whatever had ended would favour short answers.
    """

    def __init__(self, settings: Asynchronous, context: SourceContext) -> None:
        super().__init__(settings, context)
        self._bound = settings.max_staleness
        self._most = inf if settings.max_inflight_tasks is None else settings.max_inflight_tasks
        self._version = 0  # of the weights that the engine holds: as many as there were steps
        self._frontier = 0  # the first position of the stream that nobody has begun
        self._running: dict[int, asyncio.Task[list[Trajectory]]] = {}  # this process's, by position; some have ended
        self._kept: dict[int, list[Trajectory]] = {}  # the same, from a checkpoint

    def next(self, step: int) -> list[Sample]:
        """The step's rows, of all ranks; what the steps after it may use is begun, too."""
        self._version = step
        samples = super().next(step)
        self.metrics = lag_metrics(self.played, step, self._bound)
        return samples

    def state(self) -> Mapping[str, Any]:
        """Once all that was begun has ended: the position, and the episodes that no step has used yet."""
        pending = self._gather(aio.wait(self._settled()))
        return {**super().state(), "pending": [[to_tree(one) for one in group] for group in pending]}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._frontier = self._position
        for group in state["pending"]:
            position = int(group[0]["group"].partition("/")[0])
            if self._mine(position):
                problem = self._draw(position)[1]
                self._kept[position] = [from_tree(one, problem) for one in group]

    def close(self) -> None:
        aio.wait(self._cancelled())
        aio.foreground()

    def _wanted(self, group: Sequence[Trajectory], step: int) -> bool:
        return _lag(group, step) <= self._bound and super()._wanted(group, step)

    def _play(self, count: int) -> Groups:
        mine = aio.wait(self._until(count))
        return self._together(mine, [name for name, _ in self._next(count)])

    async def _until(self, count: int) -> Groups:
        """This process's share of the next `count` groups, ended; what may be begun is, whenever one ends."""
        last = self._position + count
        while True:
            self._begin(count)
            busy = self._busy()
            if self._frontier >= last and not any(position < last for position in busy):
                break
            await asyncio.wait(busy.values(), return_when=asyncio.FIRST_COMPLETED)
        return [self._take(position) for position in range(self._position, last) if self._mine(position)]

    def _begin(self, count: int) -> None:
        """Draw as many groups as the step, which still wants `count`, and those after it can use in time."""
        running, batch = len(self._busy()), self._options.prompts_per_step
        taken = self._version * batch + (batch - count)  # by the steps so far, and by this one
        room = capacity(
            max_concurrent=self._most,
            running=running,
            max_staleness=self._bound,
            version=self._version,
            batch=batch,
            accepted=taken + self._frontier - self._position - running,
        )
        for position in range(self._frontier, self._frontier + int(max(room, 0))):
            if self._mine(position) and position not in self._kept:
                name, problem = self._draw(position)
                self._running[position] = asyncio.ensure_future(self._player.run_group(problem, name))
            self._frontier += 1

    def _mine(self, position: int) -> bool:
        return position % self._ranks == self._rank

    def _busy(self) -> dict[int, asyncio.Task[list[Trajectory]]]:
        return {position: task for position, task in self._running.items() if not task.done()}

    def _take(self, position: int) -> list[Trajectory]:
        return self._kept.pop(position) if position in self._kept else self._running.pop(position).result()

    async def _settled(self) -> Groups:
        """All that this process has begun and no step has used, in the order of the stream."""
        played = dict(zip(self._running, await asyncio.gather(*self._running.values()), strict=True)) | self._kept
        return [played[position] for position in sorted(played)]

    async def _cancelled(self) -> None:
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=CLOSE_S)
        self._running.clear()


def capacity(
    *, max_concurrent: float, running: int, max_staleness: int, version: int, batch: int, accepted: int
) -> float:
    """How many groups may be begun now, so that none is older than `max_staleness` when its turn comes; below 0: none.

    Args:
        max_concurrent: groups that may run at once.
        running: groups that do.
        version: of the weights that would play them.
        batch: groups that a step takes.
        accepted: groups that have ended and were, or will be, learned from: `version * batch` after a resume.
    Source: AReaL (arXiv 2505.24298), as in its released staleness manager.
    """
    return min(max_concurrent - running, (max_staleness + version + 1) * batch - (accepted + running))


def lag_metrics(groups: Groups, step: int, bound: int) -> dict[str, float]:
    """What a step's episodes were like, by how many versions the weights that began them lie behind the step.

    A group with a token beyond `bound` is not learned from: it is counted, with its length and its share of right ones.
    """
    episodes = [(step - one.turns[0].completion.version, one) for group in groups for one in group if one.turns]
    late = [group for group in groups if _lag(group, step) > bound]
    metrics = {"staleness/dropped": float(len(late))}
    metrics |= _alike("staleness/dropped", [one for group in late for one in group if one.turns])
    for lag in sorted({lag for lag, _ in episodes}):
        alike = [one for began, one in episodes if began == lag]
        metrics[f"staleness/lag_{lag}/frac"] = len(alike) / len(episodes)
        metrics |= _alike(f"staleness/lag_{lag}", alike)
    return metrics


def _alike(name: str, episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Mean length, and share of right ones where anybody judged."""
    lengths = [sum(len(turn.completion.token_ids) for turn in one.turns) for one in episodes]
    judged = [one.score.correct for one in episodes if one.score is not None and one.score.correct is not None]
    metrics = {f"{name}/mean_length": fmean(lengths)} if lengths else {}
    return metrics | ({f"{name}/accuracy": fmean(judged)} if judged else {})


def _lag(group: Sequence[Trajectory], step: int) -> int:
    """Of its oldest token; 0 where nothing was said."""
    said = [turn.completion for one in group for turn in one.turns if turn.completion.token_ids]
    return max((step - min(completion.versions or (completion.version,)) for completion in said), default=0)


CLOSE_S = 30.0
"""Seconds for environments to close when a run is stopped."""
plugin = Asynchronous
