"""The scheduler: it runs each drawn group, in its step or ahead of it within a staleness bound.

With `max_staleness` 1 and `prompts_per_step` B, at step v:

    sampler --draws--> | B groups of step v | B groups of step v+1 | --x   nothing is drawn beyond the bound
                         oldest: waited for    run meanwhile,
                               |               at most max_inflight_tasks at once
                               v
                       source, filters, samples of step v

A step that takes its B groups makes room for B more. So a slow step holds back what is drawn, and no finished
group is thrown away. Groups are learned from in the order in which they were drawn, however long each takes: a
scheduler that took whatever had ended would favour short answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from llmrl import aio
from llmrl.rollout.concerted import gathered
from llmrl.rollout.context import Groups, SourceContext
from llmrl.rollout.sampler import Draw, Played, Sampler
from llmrl.rollout.worker import check_errors
from llmrl.trajectories import from_tree, to_tree
from llmrl.types import Trajectory

CLOSE_S = 30.0
"""Seconds for environments to close when a run is stopped."""


@dataclass(slots=True)
class _Slot:
    """A drawn group that no step has used yet: waiting (neither field is set), then a task, then episodes."""

    draw: Draw
    mine: bool  # this process runs it
    task: asyncio.Task[list[Trajectory]] | None = None
    played: list[Trajectory] | None = None

    def collect(self) -> None:
        """Take the episodes of a task that has ended, or raise what it raised."""
        if self.task is not None and self.task.done():
            self.played, self.task = self.task.result(), None


class Scheduler:
    """Owns the queue of drawn groups and the tasks that run them.

    Every process draws the whole queue, runs its share of it and learns from all of it; the ranks agree without
    messages. Draws happen when a step asks, as many as the bound allows, and not when a task ends: a draw depends on
    what was observed before the step that draws it, and on nothing later.
    """

    def __init__(
        self, sampler: Sampler, context: SourceContext, *, max_staleness: int = 0, max_inflight_tasks: int | None = None
    ) -> None:
        self._sampler = sampler
        self.player = context.player
        self._options, self._gather = context.options, context.gather
        self._rank, self._ranks = context.rank
        self._bound = max_staleness
        self._most = inf if max_inflight_tasks is None else max_inflight_tasks
        self._queue: list[_Slot] = []
        self._marked: list[_Slot] = []
        if self._bound:
            aio.background()

    def play(self, step: int, count: int) -> list[Played]:
        """Return the next `count` groups of all ranks, in the order of their draws; start tasks within the limits.

        Args:
            step: which learns from them, and the version of the weights that generate now.
            count: how many groups the step still wants, at most `prompts_per_step`.
        Raises:
            RewardError: too many episodes could not be scored.
            LlmrlError, Stopped: the first that any process met.
        """
        self._draw(step, count)
        groups = gathered(lambda: aio.wait(self._ended(step, count)), self._gather)
        turn, self._queue = self._queue[:count], self._queue[count:]
        played = {group[0].group: group for group in groups}
        episodes = [trajectory for group in played.values() for trajectory in group]
        check_errors(episodes, self._options.max_error_share, self.player.breaks)
        return [(slot.draw, played[slot.draw.name]) for slot in turn]

    def mark(self) -> None:
        """Remember the queue as it is, for `rewind`."""
        self._marked = list(self._queue)

    def rewind(self) -> None:
        """Go back to the queue at the last `mark`: what was drawn since is dropped, what was played before stays."""
        kept = self._marked
        self._queue = [slot for slot in self._queue if not any(slot is other for other in kept)]
        if any(slot.task is not None for slot in self._queue):
            aio.wait(self._cancelled())
        self._queue = kept

    def state(self) -> Mapping[str, Any]:
        """Wait for all running tasks; return the names of the queue, and the episodes that no step has used."""
        played = self._together(aio.wait(self._settled())) if self._queue else {}
        drawn = [slot.draw.name for slot in self._queue]
        pending = [list(map(to_tree, played[name])) for name in drawn if name in played]
        return {"drawn": drawn, "pending": pending}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Queue what the checkpoint had drawn; the sampler must have its own state back."""
        self._queue = self._slots([self._sampler.draw(name) for name in state["drawn"]])
        pending = {group[0]["group"]: group for group in state["pending"]}
        for slot in self._queue:
            if slot.mine and slot.draw.name in pending:
                slot.played = [from_tree(trajectory, slot.draw.problem) for trajectory in pending[slot.draw.name]]

    def close(self) -> None:
        """Cancel running tasks; safe to call twice."""
        if any(slot.task is not None for slot in self._queue):
            aio.wait(self._cancelled())
        self._queue = []
        if self._bound:
            aio.foreground()

    def _draw(self, step: int, count: int) -> None:
        """Draw what this step, which still wants `count`, and the steps within the bound after it lack."""
        for ahead in range(self._bound + 1):
            missing = count + ahead * self._options.prompts_per_step - len(self._queue)
            if missing > 0:
                self._queue += self._slots(self._sampler.next(missing, step + ahead))

    def _slots(self, draws: Sequence[Draw]) -> list[_Slot]:
        return [_Slot(draw, mine=i % self._ranks == self._rank) for i, draw in enumerate(draws)]

    async def _ended(self, step: int, count: int) -> Groups:
        """Wait for this process's share of the next `count` groups; whenever a group ends, others may begin."""
        turn = [slot for slot in self._queue[:count] if slot.mine]
        while True:
            self._begin(step, count)
            for slot in turn:
                slot.collect()
            ended = [slot.played for slot in turn if slot.played is not None]
            if len(ended) == len(turn):
                return ended
            await asyncio.wait(self._running(), return_when=asyncio.FIRST_COMPLETED)

    def _begin(self, step: int, count: int) -> None:
        """Begin this process's waiting groups, the oldest first, as far as the limits allow."""
        waiting = [slot for slot in self._queue if slot.mine and slot.task is None and slot.played is None]
        running, batch = len(self._running()), self._options.prompts_per_step
        taken = (step + 1) * batch - count  # by the steps before, and by this one
        room = capacity(
            max_concurrent=self._most,
            running=running,
            max_staleness=self._bound,
            version=step,
            batch=batch,
            accepted=taken + len(self._queue) - len(waiting) - running,
        )
        for slot in waiting[: int(max(room, 0))]:
            slot.task = asyncio.ensure_future(self._run(slot.draw))

    async def _run(self, draw: Draw) -> list[Trajectory]:
        player = self.player
        if draw.max_completion_length is not None:
            options = replace(player.options, max_completion_length=draw.max_completion_length)
            player = replace(player, options=options)
        if draw.state is not None:
            player = replace(player, begin=draw.state, max_turns=draw.max_turns)
        return await player.run_group(draw.problem, draw.name, draw.prefix_ids)

    def _running(self) -> list[asyncio.Task[list[Trajectory]]]:
        return [slot.task for slot in self._queue if slot.task is not None and not slot.task.done()]

    def _together(self, mine: Groups) -> dict[str, list[Trajectory]]:
        """The groups of all ranks, by name."""
        return {group[0].group: group for group in self._gather(mine)}

    async def _settled(self) -> Groups:
        """Wait until nothing runs; return the episodes that this process has finished."""
        await asyncio.gather(*self._running())
        for slot in self._queue:
            slot.collect()
        return [slot.played for slot in self._queue if slot.played is not None]

    async def _cancelled(self) -> None:
        tasks = [slot.task for slot in self._queue if slot.task is not None]
        for task in tasks:
            task.cancel()
        ended, _ = await asyncio.wait(tasks, timeout=CLOSE_S)
        await asyncio.gather(*ended, return_exceptions=True)  # their errors no longer matter


def capacity(
    *, max_concurrent: float, running: int, max_staleness: int, version: int, batch: int, accepted: int
) -> float:
    """Count the groups that may be begun now, so that none is older than `max_staleness` in its turn; below 0: none.

    Args:
        max_concurrent: groups that may run at once.
        running: groups that do.
        version: of the weights that would generate them.
        batch: groups that a step takes.
        accepted: groups that have ended and were, or will be, learned from: `version * batch` after a resume.
    Source: AReaL (arXiv 2505.24298), as in its released staleness manager.
    """
    return min(max_concurrent - running, (max_staleness + version + 1) * batch - (accepted + running))
