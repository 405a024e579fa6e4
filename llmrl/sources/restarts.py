"""Episodes that begin in the midst of earlier answers, beside those that begin at the prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from llmrl.aio import wait
from llmrl.chat import Chat
from llmrl.errors import DataError
from llmrl.ops.snapshots import draw
from llmrl.run_folder.reader import episodes
from llmrl.samples import Sample
from llmrl.sources.online import Groups, Online, OnlineSource, SourceContext
from llmrl.types import Problem, Trajectory

BUCKETS = 3


@dataclass(frozen=True)
class Restarts(Online):
    """`online`, where a falling share of the groups goes on from a line of an earlier answer (SnapshotRL, S3RL)."""

    share: float = 0.5  # of a step's groups, at first
    decay_steps: int = 60  # until it has fallen to 0, in a straight line; about 30 % of train.max_steps
    max_continuation_length: int | None = (
        None  # tokens after the prefix; None: what rollout.max_completion_length leaves
    )
    max_snapshots: int = 1024  # the newest are kept
    rollouts: str | None = None  # another run's rollouts.jsonl to begin with; None: this run's own answers alone

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.decay_steps < 1 or self.max_snapshots < 1:
            raise ValueError("share must be in [0, 1], decay_steps and max_snapshots at least 1")
        if self.max_continuation_length is not None and self.max_continuation_length < 1:
            raise ValueError("max_continuation_length must be at least 1")

    def share_at(self, step: int) -> float:
        """Of the groups of a step that are restarts, where there are snapshots."""
        return self.share * max(0.0, 1.0 - step / self.decay_steps)

    def open(self, context: SourceContext) -> RestartSource:
        """The player of restarts.

        Raises:
            DataError: `rollouts` cannot be used.
        """
        return RestartSource(self, context)


@dataclass(frozen=True)
class Snapshot:
    """A state to start from: a problem and the first tokens of an answer to it, which end where a line does."""

    problem: str
    prefix_ids: tuple[int, ...]
    value: float  # how many of the answers that went on from here were right; at first, from the prompt


class RestartSource(OnlineSource):
    """Restarts have groups of their own, so that continuations are compared with each other only."""

    def __init__(self, settings: Restarts, context: SourceContext) -> None:
        super().__init__(settings, context)
        self._again = settings
        self._named = {problem.id: problem for problem in self._problems}
        self._step = 0
        self._restarts = 0  # so far
        self._from: dict[str, Snapshot] = {}  # what the step's restarts began from, by the name of the group
        self._snapshots: list[Snapshot] = []
        if settings.rollouts is not None:
            room = self._options.max_completion_length
            self._keep(read(Path(settings.rollouts), self._named, self._player.chat, room, self._seed))

    def next(self, step: int) -> list[Sample]:
        """The step's rows, of all ranks; its answers are remembered while steps to come begin from them."""
        self._step, self._from = step, {}
        samples = [row for row in super().next(step) if not (row.truncated and self._short(row.group))]
        self.metrics = restart_metrics(self.played, self._from) | {"restarts/snapshots": float(len(self._snapshots))}
        if self._again.share_at(step + 1) > 0:
            self._remember(step)
        else:
            self._snapshots = []
        return samples

    def state(self) -> Mapping[str, Any]:
        kept = [[one.problem, list(one.prefix_ids), one.value] for one in self._snapshots]
        return {**super().state(), "restarts": self._restarts, "snapshots": kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._restarts = int(state["restarts"])
        self._snapshots = [Snapshot(problem, tuple(ids), value) for problem, ids, value in state["snapshots"]]

    def _play(self, count: int) -> Groups:
        again = [self._draw_again() for _ in range(round(self._again.share_at(self._step) * count))]
        began = {name: snapshot for name, snapshot in again if snapshot is not None}
        self._from |= began
        drawn: list[tuple[str, Problem]] = [(name, self._named[one.problem]) for name, one in began.items()]
        drawn = self._next(count - len(drawn)) + drawn
        mine = wait(self._all(drawn[self._rank :: self._ranks]))
        return self._together(mine, [name for name, _ in drawn])

    def _draw_again(self) -> tuple[str, Snapshot | None]:
        """A snapshot under a name that no other draw has; None where there is none yet."""
        if not self._snapshots:
            return "", None
        random = Random(f"{self._seed}/restart/{self._restarts}")
        chosen = self._snapshots[draw([one.value for one in self._snapshots], BUCKETS, random)]
        self._restarts += 1
        return f"r{self._restarts - 1}/{chosen.problem}@{len(chosen.prefix_ids)}", chosen

    async def _all(self, drawn: Sequence[tuple[str, Problem]]) -> Groups:
        return list(await asyncio.gather(*(self._group(name, problem) for name, problem in drawn)))

    async def _group(self, name: str, problem: Problem) -> list[Trajectory]:
        snapshot = self._from.get(name)
        if snapshot is None:
            return await self._player.run_group(problem, name)
        player, limit = self._player, self._again.max_continuation_length
        if limit is not None:
            most = min(self._options.max_completion_length, len(snapshot.prefix_ids) + limit)
            player = replace(player, options=replace(player.options, max_completion_length=most))
        return await player.run_group(problem, name, snapshot.prefix_ids)

    def _short(self, name: str) -> bool:
        """Whether its episodes had less room than an answer has: one that was cut off is not wrong, only not ended."""
        snapshot, limit = self._from.get(name), self._again.max_continuation_length
        if snapshot is None or limit is None:
            return False
        return len(snapshot.prefix_ids) + limit < self._options.max_completion_length

    def _remember(self, step: int) -> None:
        """What the step found out: values of the states it began from, and new states, of right and wrong answers."""
        found: dict[Snapshot, float] = {}
        for group in self.played:
            snapshot, rate = self._from.get(group[0].group), pass_rate(group, self._short(group[0].group))
            if snapshot is not None and rate is not None:
                found[snapshot] = rate
        self._snapshots = [replace(one, value=found.get(one, one.value)) for one in self._snapshots]
        fresh = (group for group in self.played if group[0].group not in self._from)
        room = self._options.max_completion_length
        self._keep(one for group in fresh for one in snapshots(group, self._player.chat, room, self._seed))

    def _keep(self, found: Iterable[Snapshot]) -> None:
        self._snapshots = [*self._snapshots, *found][-self._again.max_snapshots :]


def snapshots(group: Sequence[Trajectory], chat: Chat, room: int, seed: int) -> Iterator[Snapshot]:
    """A state of each judged answer that has a line to begin after, right or wrong, with the group's pass rate."""
    rate = pass_rate(group)
    for one in group:
        if rate is not None and one.turns and one.earned is not None:
            said = one.turns[0].completion.token_ids
            cut = _cut(said, chat, room, Random(f"{seed}/cut/{one.group}/{one.episode}"))
            if cut:
                yield Snapshot(one.problem.id, tuple(said[:cut]), rate)


def _cut(said: Sequence[int], chat: Chat, room: int, random: Random) -> int:
    """After how many tokens: any line's end that leaves something to say; 0 where there is none."""
    ends = [end for end in chat.line_ends(said) if end < min(len(said), room)]
    return random.choice(ends) if ends else 0


def pass_rate(group: Sequence[Trajectory], short: bool = False) -> float | None:
    """The share of right answers, or the mean of what they earned where nobody said right or wrong.

    With `short`, answers that were cut off do not count. None where none was judged.
    """
    counted = [one for one in group if not (short and one.truncated)]
    judged = [(one.score.correct, one.earned) for one in counted if one.score is not None and one.earned is not None]
    return fmean(earned if correct is None else correct for correct, earned in judged) if judged else None


def read(path: Path, problems: Mapping[str, Problem], chat: Chat, room: int, seed: int) -> list[Snapshot]:
    """Snapshots of another run's `rollouts.jsonl`, of the tokens that it logged.

    Where these do not say the text (none were logged, they are of another tokenizer, or the answer goes on from a
    prefix), the text is encoded once, here.

    Raises:
        DataError: it cannot be read, is of other problems, or has no answer with two lines.
    """
    found: list[Snapshot] = []
    try:
        played = (one.trajectory for one in episodes(path))
        for _, group in groupby(played, key=lambda one: one.group):
            told = [_spoken(one, chat) for one in group]
            if told[0].problem.id not in problems:
                raise DataError(
                    f"{path}: problem {told[0].problem.id} is not in this run's data; expected rollouts of it"
                )
            found += snapshots(told, chat, room, seed)
    except DataError as error:
        raise DataError(f"source.rollouts: {error}") from None
    if not found:
        raise DataError(f"source.rollouts: {path}: no judged answer has a line to begin after; leave it out")
    return found


def _spoken(one: Trajectory, chat: Chat) -> Trajectory:
    """The episode, its first answer in tokens that say its text."""
    if not one.turns or chat.text(one.turns[0].completion.token_ids) == one.turns[0].text:
        return one
    first, *others = one.turns
    said = chat.tokenizer(first.text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return replace(one, turns=[replace(first, completion=replace(first.completion, token_ids=said)), *others])


def restart_metrics(groups: Groups, began: Mapping[str, Snapshot]) -> dict[str, float]:
    """How much of a step, and of its success, came from restarts; pass rates of both kinds."""
    again = [group for group in groups if group[0].group in began]
    fresh = [group for group in groups if group[0].group not in began]
    metrics = {"restarts/frac": len(again) / len(groups)} if groups else {}
    for name, kind in (("restarts/accuracy", again), ("restarts/fresh_accuracy", fresh)):
        rates = [rate for group in kind if (rate := pass_rate(group)) is not None]
        metrics |= {name: fmean(rates)} if rates else {}
    right = [sum(_is_right(one) for group in kind for one in group) for kind in (again, fresh)]
    metrics |= {"restarts/success_share": right[0] / sum(right)} if sum(right) else {}
    if began:
        metrics["restarts/prefix_length"] = fmean(len(one.prefix_ids) for one in began.values())
        metrics["restarts/value"] = fmean(one.value for one in began.values())
    return metrics


def _is_right(one: Trajectory) -> bool:
    return one.score is not None and one.score.correct is True


plugin = Restarts
