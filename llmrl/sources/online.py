"""OnlineSource samples of the current policy: problems in a shuffled order, a group of episodes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from llmrl.aio import wait
from llmrl.errors import DataError
from llmrl.recipe import RolloutOptions
from llmrl.rollout.samples import to_samples
from llmrl.rollout.worker import RolloutWorker, check_errors
from llmrl.samples import Sample
from llmrl.types import Problem, Trajectory

Groups = list[list[Trajectory]]


@dataclass(frozen=True)
class Online:
    """With `dynamic_sampling`, groups that are all right or all wrong are replaced (DAPO, arXiv 2503.14476)."""

    dynamic_sampling: bool = False
    max_refills: int = 10  # times that missing groups are played again; then the step goes on with what there is

    def start(
        self,
        player: RolloutWorker,
        problems: Sequence[Problem],
        options: RolloutOptions,
        *,
        seed: int,
        rank: tuple[int, int],
        gather: Callable[[Groups], Groups],
    ) -> OnlineSource:
        """The source, at the beginning of the data, on one of the ranks: (which, of how many).

        Raises:
            DataError: there are no problems, or an option cannot be met.
        """
        if not problems:
            raise DataError("the dataset has no problems; expected at least one")
        return self.open(
            SourceContext(player=player, problems=problems, options=options, seed=seed, rank=rank, gather=gather)
        )

    def open(self, context: SourceContext) -> OnlineSource:
        """What plays there; sources that play otherwise give another."""
        return OnlineSource(self, context)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContext:
    """Where a source plays, and with what."""

    player: RolloutWorker
    problems: Sequence[Problem]
    options: RolloutOptions
    seed: int
    rank: tuple[int, int]  # which, of how many
    gather: Callable[[Groups], Groups]  # the groups of all ranks


class OnlineSource:
    """Plays `prompts_per_step` groups a step, dealt to the ranks; every rank knows all of them."""

    def __init__(self, settings: Online, context: SourceContext) -> None:
        self._settings = settings
        self._player = context.player
        self._problems = context.problems
        self._options = context.options
        self._seed = context.seed
        self._rank, self._ranks = context.rank
        self._gather = context.gather
        self._position = 0  # in the endless stream of problems
        self.played: Groups = []  # the last step's, those that dynamic sampling refused included
        self.refills = 0
        self.metrics: dict[str, float] = {}
        self._shuffled: tuple[int, list[int]] = (-1, [])

    def next(self, step: int) -> list[Sample]:
        """The step's rows, of all ranks."""
        self.played, self.refills = [], 0
        kept: Groups = []
        while True:
            played = self._play(self._options.prompts_per_step - len(kept))
            self.played += played
            kept += [group for group in played if self._wanted(group, step)]
            if len(kept) == self._options.prompts_per_step or self.refills == self._settings.max_refills:
                break
            self.refills += 1
        return [row for group in kept for trajectory in group for row in to_samples(trajectory)]

    def state(self) -> Mapping[str, Any]:
        return {"position": self._position}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._position = int(state["position"])

    def close(self) -> None:
        """Nothing: what is played has ended."""

    def _wanted(self, group: Sequence[Trajectory], step: int) -> bool:
        """Whether a step learns from the group, or plays another in its place."""
        return not self._settings.dynamic_sampling or informative(group)

    def _play(self, count: int) -> Groups:
        """The next groups of the stream, in its order whatever the number of ranks."""
        drawn = self._next(count)
        mine = wait(self._player.run_groups(dict(drawn[self._rank :: self._ranks])))
        return self._together(mine, [name for name, _ in drawn])

    def _next(self, count: int) -> list[tuple[str, Problem]]:
        """The next draws of the stream, which moves on."""
        first, self._position = self._position, self._position + count
        return [self._draw(position) for position in range(first, self._position)]

    def _together(self, mine: Groups, names: Sequence[str]) -> Groups:
        """The groups of all ranks, in the order of their names.

        Raises:
            RewardError: too many episodes could not be scored.
        """
        played, order = self._gather(mine), {name: i for i, name in enumerate(names)}
        check_errors([one for group in played for one in group], self._options.max_error_share)
        return sorted(played, key=lambda group: order[group[0].group])

    def _draw(self, position: int) -> tuple[str, Problem]:
        """The problem at a position of the stream, under a name that no other draw has."""
        epoch, index = divmod(position, len(self._problems))
        problem = self._problems[self._order(epoch)[index]]
        return f"{position}/{problem.id}", problem

    def _order(self, epoch: int) -> list[int]:
        if self._shuffled[0] != epoch:
            order = list(range(len(self._problems)))
            Random(f"{self._seed}/{epoch}").shuffle(order)
            self._shuffled = (epoch, order)
        return self._shuffled[1]


def informative(group: Sequence[Trajectory]) -> bool:
    """Whether some episodes succeeded and some failed: by verdict where the reward gives one, else by
    what they earned.

    Shaped scores would make a group of wrong answers of different lengths look informative.
    """
    scored = [(one.earned, one.score.correct) for one in group if one.score is not None and one.earned is not None]
    verdicts = {correct for _, correct in scored if correct is not None}
    return len(verdicts or {earned for earned, _ in scored}) > 1


plugin = Online
