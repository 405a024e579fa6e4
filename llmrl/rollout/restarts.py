"""Restarts: groups that go on from the midst of an earlier episode, beside those that begin at the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean
from typing import Any

from llmrl.ops.snapshots import draw as choose
from llmrl.rollout.cuts import Cuts, Snapshot, restored, saved
from llmrl.rollout.outcomes import pass_rate
from llmrl.rollout.sampler import Draw, Played, ProblemSampler
from llmrl.types import Trajectory

BUCKETS = 3


class RestartSampler:
    """Draws a share of each step's groups from snapshots, the others from the stream of fresh problems.

    A draw uses the snapshots of the steps that were observed before it, and no later ones: with `max_staleness` s,
    step v draws the restarts of step v + s from the episodes of steps 0 to v - 1. Restarts have groups of their own,
    called `r<number>/<problem>@<place>`, so that continuations are compared with each other only.
    """

    def __init__(
        self,
        fresh: ProblemSampler,
        cuts: Cuts,
        *,
        share: Callable[[int], float],
        max_snapshots: int = 1024,
        snapshots: Iterable[Snapshot] = (),
    ) -> None:
        """Begin with some snapshots, or none.

        Args:
            fresh: draws problems from their prompt; its seed is the seed of the restarts, too.
            cuts: which makes states of episodes.
            share: of a step's groups that are restarts, by step; never rising.
            max_snapshots: the newest are kept.
            snapshots: those to begin with.
        """
        self._fresh = fresh
        self._cuts = cuts
        self._share = share
        self._most = max_snapshots
        self._problems = {problem.id: problem for problem in fresh.problems}
        self._restarts = 0  # so far
        self.snapshots: list[Snapshot] = []
        self.outstanding: dict[str, Snapshot] = {}  # drawn from, not observed yet, by the name of the draw
        self._keep(snapshots)

    def next(self, count: int, step: int) -> list[Draw]:
        """Draw groups for a step, its restarts last."""
        restarts = round(self._share(step) * count) if self.snapshots else 0
        return self._fresh.next(count - restarts, step) + [self._restart() for _ in range(restarts)]

    def draw(self, name: str) -> Draw:
        """Give the draw of a name that was not observed yet."""
        snapshot = self.outstanding.get(name)
        if snapshot is None:
            return self._fresh.draw(name)
        return self._cuts.draw(name, self._problems[snapshot.problem], snapshot)

    def observe(self, step: int, played: Sequence[Played]) -> dict[str, float]:
        """Update the values of the snapshots that the step used; keep new ones while later steps draw from them."""
        began = {draw.name: self.outstanding.pop(draw.name) for draw, _ in played if draw.restarts}
        metrics = restart_metrics(played, began)
        metrics["restarts/snapshots"] = float(len(self.snapshots))
        metrics |= self._fresh.observe(step, [each for each in played if not each[0].restarts])
        if self._share(step + 1) > 0:
            self._revalue(played, began)
            fresh = (group for draw, group in played if not draw.restarts)
            self._keep(new for group in fresh for new in self._cuts.states(group))
        else:
            self.snapshots = []
        return metrics

    def state(self) -> Mapping[str, Any]:
        return {
            **self._fresh.state(),
            "restarts": self._restarts,
            "snapshots": [saved(snapshot) for snapshot in self.snapshots],
            "outstanding": {name: saved(snapshot) for name, snapshot in self.outstanding.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._fresh.restore(state)
        self._restarts = int(state["restarts"])
        self.snapshots = [restored(snapshot) for snapshot in state["snapshots"]]
        self.outstanding = {name: restored(snapshot) for name, snapshot in state["outstanding"].items()}

    def _restart(self) -> Draw:
        random = Random(f"{self._fresh.seed}/restart/{self._restarts}")
        snapshot = self.snapshots[choose([state.value for state in self.snapshots], BUCKETS, random)]
        name = f"r{self._restarts}/{snapshot.problem}@{snapshot.place}"
        self._restarts += 1
        self.outstanding[name] = snapshot
        return self.draw(name)

    def _revalue(self, played: Sequence[Played], began: Mapping[str, Snapshot]) -> None:
        """Set a snapshot's value to the pass rate of the group that went on from it, kept or outstanding."""
        rates: dict[Snapshot, float] = {}
        for draw, group in played:
            rate = pass_rate(draw.uncut(group))
            if draw.name in began and rate is not None:
                rates[began[draw.name]] = rate
        self.snapshots = [replace(snapshot, value=rates.get(snapshot, snapshot.value)) for snapshot in self.snapshots]
        self.outstanding = {
            name: replace(snapshot, value=rates.get(snapshot, snapshot.value))
            for name, snapshot in self.outstanding.items()
        }

    def _keep(self, new: Iterable[Snapshot]) -> None:
        self.snapshots = [*self.snapshots, *new][-self._most :]


def restart_metrics(played: Sequence[Played], began: Mapping[str, Snapshot]) -> dict[str, float]:
    """Measure how much of a step, and of its success, came from restarts; pass rates of both kinds.

    Episodes that only a limit of the restart cut off are no failures: `restarts/cut` is their share of all restarted
    ones, and the pass rates leave them out.
    """
    again = [draw.uncut(group) for draw, group in played if draw.name in began]
    fresh = [group for draw, group in played if draw.name not in began]
    metrics = {"restarts/frac": len(again) / len(played)} if played else {}
    if restarted := sum(len(group) for draw, group in played if draw.name in began):
        metrics["restarts/cut"] = 1 - sum(map(len, again)) / restarted
    for name, kind in (("restarts/accuracy", again), ("restarts/fresh_accuracy", fresh)):
        rates = [rate for group in kind if (rate := pass_rate(group)) is not None]
        metrics |= {name: fmean(rates)} if rates else {}
    right = [sum(_is_right(episode) for group in kind for episode in group) for kind in (again, fresh)]
    metrics |= {"restarts/success_share": right[0] / sum(right)} if sum(right) else {}
    if began:
        metrics["restarts/prefix_length"] = fmean(len(snapshot.prefix_ids) for snapshot in began.values())
        turns = [snapshot.state.turns for snapshot in began.values() if snapshot.state is not None]
        metrics |= {"restarts/turns": fmean(turns)} if turns else {}
        metrics["restarts/value"] = fmean(snapshot.value for snapshot in began.values())
    return metrics


def _is_right(episode: Trajectory) -> bool:
    return episode.score is not None and episode.score.correct is True
