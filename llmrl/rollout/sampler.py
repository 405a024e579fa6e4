"""Samplers: they choose the next problem, and the prefix to go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from llmrl.rollout.middle import MiddleState
from llmrl.types import Problem, Trajectory


@dataclass(frozen=True, slots=True)
class Draw:
    """A group to generate: `rollout.num_generations` episodes of a problem, all after one prefix, or from one state."""

    name: str  # no other draw of the run has it; seeds and baselines go by it
    problem: Problem
    prefix_ids: tuple[int, ...] = ()  # tokens that the first completion goes on from
    max_completion_length: int | None = None  # prefix included; None: as long as any answer may be
    state: MiddleState | None = None  # in which the episodes begin; None: where the environment does
    max_turns: int | None = None  # behind the state
    short: bool = False  # `max_turns` is less than an episode has left there

    @property
    def restarts(self) -> bool:
        """True if its episodes begin in the midst of an earlier one."""
        return bool(self.prefix_ids) or self.state is not None

    def cuts(self, episode: Trajectory) -> bool:
        """True if a limit of this draw alone has cut an episode off: that is no failure of it."""
        if self.short and episode.status == "max_turns":
            return True
        return self.max_completion_length is not None and episode.truncated

    def uncut(self, group: Sequence[Trajectory]) -> list[Trajectory]:
        """Episodes that ended by themselves, or by a limit that any episode has."""
        return [episode for episode in group if not self.cuts(episode)]


Played = tuple[Draw, list[Trajectory]]
"""A draw and its episodes, scored."""


class Sampler(Protocol):
    """Draws without end. The seed and what was observed decide them, never the clock, so all ranks draw the same."""

    def next(self, count: int, step: int) -> list[Draw]:
        """Draw groups for `step` to learn from; an asynchronous source asks before the step begins."""
        ...

    def draw(self, name: str) -> Draw:
        """Give a draw that was handed out and not observed yet once more, after a resume."""
        ...

    def observe(self, step: int, played: Sequence[Played]) -> dict[str, float]:
        """Observe all groups of a step, and return metrics."""
        ...

    def state(self) -> Mapping[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> None: ...


class ProblemSampler(Sampler, Protocol):
    """A sampler that draws problems from their prompt."""

    problems: Sequence[Problem]
    seed: int


class FreshSampler:
    """Problems from their prompt: every problem once a pass, each pass in an order of its own.

    A draw is called `<position>/<problem>`, with its position in the endless stream of passes.
    """

    def __init__(self, problems: Sequence[Problem], seed: int) -> None:
        self.problems = problems
        self.seed = seed
        self._position = 0
        self._shuffled: tuple[int, list[int]] = (-1, [])  # a pass and its order

    def next(self, count: int, step: int) -> list[Draw]:
        """Draw the next problems of the stream."""
        first, self._position = self._position, self._position + count
        return [self._at(position) for position in range(first, self._position)]

    def draw(self, name: str) -> Draw:
        """Give the draw of a name: its position says which it was."""
        return self._at(int(name.partition("/")[0]))

    def observe(self, step: int, played: Sequence[Played]) -> dict[str, float]:
        """Learn nothing: the order is fixed."""
        return {}

    def state(self) -> Mapping[str, Any]:
        return {"position": self._position}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._position = int(state["position"])

    def _at(self, position: int) -> Draw:
        epoch, index = divmod(position, len(self.problems))
        problem = self.problems[self._order(epoch)[index]]
        return Draw(f"{position}/{problem.id}", problem)

    def _order(self, epoch: int) -> list[int]:
        if self._shuffled[0] != epoch:
            order = list(range(len(self.problems)))
            Random(f"{self.seed}/{epoch}").shuffle(order)
            self._shuffled = (epoch, order)
        return self._shuffled[1]
