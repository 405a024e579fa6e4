"""Restarts: groups that go on from a line of an earlier answer, beside those that begin at the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import fmean
from typing import Any

from llmrl.chat import Chat
from llmrl.ops.snapshots import draw as choose
from llmrl.rollout.outcomes import pass_rate
from llmrl.rollout.sampler import Draw, Played, ProblemSampler
from llmrl.types import Trajectory

BUCKETS = 3


@dataclass(frozen=True)
class Snapshot:
    """A state to start from: a problem and the first tokens of an answer to it, which end where a line does."""

    problem: str
    prefix_ids: tuple[int, ...]
    value: float  # share of right answers among those that went on from here; at first, of those from the prompt


class RestartSampler:
    """Draws a share of each step's groups from snapshots, the others from the stream of fresh problems.

    A draw uses the snapshots of the steps that were observed before it, and no later ones: with `max_staleness` s,
    step v draws the restarts of step v + s from the episodes of steps 0 to v - 1. Restarts have groups of their own,
    called `r<number>/<problem>@<prefix length>`, so that continuations are compared with each other only.
    """

    def __init__(
        self,
        fresh: ProblemSampler,
        chat: Chat,
        *,
        share: Callable[[int], float],
        max_completion_length: int,
        max_continuation_length: int | None = None,
        max_snapshots: int = 1024,
        snapshots: Iterable[Snapshot] = (),
    ) -> None:
        """Begin with some snapshots, or none.

        Args:
            fresh: draws problems from their prompt; its seed is the seed of the restarts, too.
            chat: which finds where lines end.
            share: of a step's groups that are restarts, by step; never rising.
            max_completion_length: tokens of an answer, prefix included.
            max_continuation_length: tokens after the prefix; None: what an answer has left.
            max_snapshots: the newest are kept.
            snapshots: those to begin with.
        """
        self._fresh = fresh
        self._chat = chat
        self._share = share
        self._room = max_completion_length
        self._continuation = max_continuation_length
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
        limit = None if self._continuation is None else len(snapshot.prefix_ids) + self._continuation
        short = limit is not None and limit < self._room
        return Draw(name, self._problems[snapshot.problem], snapshot.prefix_ids, limit if short else None)

    def observe(self, step: int, played: Sequence[Played]) -> dict[str, float]:
        """Update the values of the snapshots that the step used; keep new ones while later steps draw from them."""
        began = {draw.name: self.outstanding.pop(draw.name) for draw, _ in played if draw.prefix_ids}
        metrics = restart_metrics([group for _, group in played], began)
        metrics["restarts/snapshots"] = float(len(self.snapshots))
        metrics |= self._fresh.observe(step, [each for each in played if not each[0].prefix_ids])
        if self._share(step + 1) > 0:
            self._revalue(played, began)
            fresh = (group for draw, group in played if not draw.prefix_ids)
            self._keep(new for group in fresh for new in snapshots(group, self._chat, self._room, self._fresh.seed))
        else:
            self.snapshots = []
        return metrics

    def state(self) -> Mapping[str, Any]:
        return {
            **self._fresh.state(),
            "restarts": self._restarts,
            "snapshots": [_saved(snapshot) for snapshot in self.snapshots],
            "outstanding": {name: _saved(snapshot) for name, snapshot in self.outstanding.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._fresh.restore(state)
        self._restarts = int(state["restarts"])
        self.snapshots = [_restored(snapshot) for snapshot in state["snapshots"]]
        self.outstanding = {name: _restored(snapshot) for name, snapshot in state["outstanding"].items()}

    def _restart(self) -> Draw:
        random = Random(f"{self._fresh.seed}/restart/{self._restarts}")
        snapshot = self.snapshots[choose([state.value for state in self.snapshots], BUCKETS, random)]
        name = f"r{self._restarts}/{snapshot.problem}@{len(snapshot.prefix_ids)}"
        self._restarts += 1
        self.outstanding[name] = snapshot
        return self.draw(name)

    def _revalue(self, played: Sequence[Played], began: Mapping[str, Snapshot]) -> None:
        """Set a snapshot's value to the pass rate of the group that went on from it, kept or outstanding."""
        rates: dict[Snapshot, float] = {}
        for draw, group in played:
            rate = pass_rate(group, short=draw.max_completion_length is not None)
            if draw.name in began and rate is not None:
                rates[began[draw.name]] = rate
        self.snapshots = [replace(snapshot, value=rates.get(snapshot, snapshot.value)) for snapshot in self.snapshots]
        self.outstanding = {
            name: replace(snapshot, value=rates.get(snapshot, snapshot.value))
            for name, snapshot in self.outstanding.items()
        }

    def _keep(self, new: Iterable[Snapshot]) -> None:
        self.snapshots = [*self.snapshots, *new][-self._most :]


def snapshots(group: Sequence[Trajectory], chat: Chat, room: int, seed: int) -> Iterator[Snapshot]:
    """Give a state of each judged answer that has a line to begin after, right or wrong, with the group's pass rate."""
    rate = pass_rate(group)
    for episode in group:
        if rate is not None and episode.turns and episode.earned is not None:
            token_ids = episode.turns[0].completion.token_ids
            end = _cut(token_ids, chat, room, Random(f"{seed}/cut/{episode.group}/{episode.episode}"))
            if end:
                yield Snapshot(episode.problem.id, tuple(token_ids[:end]), rate)


def _cut(token_ids: Sequence[int], chat: Chat, room: int, random: Random) -> int:
    """Choose a prefix length: the end of any line that leaves tokens to generate; 0 where there is none."""
    ends = [end for end in chat.line_ends(token_ids) if end < min(len(token_ids), room)]
    return random.choice(ends) if ends else 0


def restart_metrics(groups: Sequence[Sequence[Trajectory]], began: Mapping[str, Snapshot]) -> dict[str, float]:
    """Measure how much of a step, and of its success, came from restarts; pass rates of both kinds."""
    again = [group for group in groups if group[0].group in began]
    fresh = [group for group in groups if group[0].group not in began]
    metrics = {"restarts/frac": len(again) / len(groups)} if groups else {}
    for name, kind in (("restarts/accuracy", again), ("restarts/fresh_accuracy", fresh)):
        rates = [rate for group in kind if (rate := pass_rate(group)) is not None]
        metrics |= {name: fmean(rates)} if rates else {}
    right = [sum(_is_right(episode) for group in kind for episode in group) for kind in (again, fresh)]
    metrics |= {"restarts/success_share": right[0] / sum(right)} if sum(right) else {}
    if began:
        metrics["restarts/prefix_length"] = fmean(len(snapshot.prefix_ids) for snapshot in began.values())
        metrics["restarts/value"] = fmean(snapshot.value for snapshot in began.values())
    return metrics


def _is_right(episode: Trajectory) -> bool:
    return episode.score is not None and episode.score.correct is True


def _saved(snapshot: Snapshot) -> list[Any]:
    return [snapshot.problem, list(snapshot.prefix_ids), snapshot.value]


def _restored(saved: Sequence[Any]) -> Snapshot:
    problem, prefix_ids, value = saved
    return Snapshot(problem, tuple(prefix_ids), value)
