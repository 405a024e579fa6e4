"""Cuts of episodes into states to begin from: behind a line of the first answer, or between two turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Protocol

from llmrl.chat import Chat
from llmrl.rollout.middle import MiddleState, middle_states
from llmrl.rollout.outcomes import pass_rate
from llmrl.rollout.sampler import Draw
from llmrl.trajectories import by_field
from llmrl.types import Problem, Trajectory


@dataclass(frozen=True)
class Snapshot:
    """A state to start from, of a problem: behind the first tokens of an answer, or between two turns."""

    problem: str
    prefix_ids: tuple[int, ...]  # which end where a line does; () between turns
    value: float  # share of right answers among those that went on from here; at first, of those from the prompt
    state: MiddleState | None = None  # between turns

    @property
    def place(self) -> str:
        """Number of tokens before it, or `turn` and the number of turns."""
        return str(len(self.prefix_ids)) if self.state is None else f"turn{self.state.turns}"


class Cuts(Protocol):
    """Makes states of episodes, and draws of states."""

    lacking: ClassVar[str]  # what episodes lack that have no states

    def states(self, group: Sequence[Trajectory]) -> Iterator[Snapshot]:
        """Give a state of each judged episode that has any, right or wrong, with the group's pass rate."""
        ...

    def draw(self, name: str, problem: Problem, snapshot: Snapshot) -> Draw:
        """The draw of a name that goes on from a state."""
        ...


@dataclass(frozen=True)
class LineCuts:
    """Cuts first answers behind any line that leaves tokens to generate."""

    chat: Chat
    room: int  # tokens of an answer, prefix included
    continuation: int | None  # tokens after the prefix; None: what an answer has left
    seed: int

    lacking: ClassVar[str] = "no judged answer has a line to begin after"

    def states(self, group: Sequence[Trajectory]) -> Iterator[Snapshot]:
        for episode, rate, random in _judged(group, self.seed):
            token_ids = episode.turns[0].completion.token_ids
            ends = [end for end in self.chat.line_ends(token_ids) if end < min(len(token_ids), self.room)]
            if ends:
                yield Snapshot(episode.problem.id, tuple(token_ids[: random.choice(ends)]), rate)

    def draw(self, name: str, problem: Problem, snapshot: Snapshot) -> Draw:
        limit = None if self.continuation is None else len(snapshot.prefix_ids) + self.continuation
        short = limit is not None and limit < self.room
        return Draw(name, problem, snapshot.prefix_ids, limit if short else None)


@dataclass(frozen=True)
class TurnCuts:
    """Cuts episodes between any two turns of which the environment has left a snapshot."""

    most: int  # turns of an episode
    new: int | None  # turns behind the state; None: what an episode has left
    seed: int

    lacking: ClassVar[str] = "no judged episode has a snapshot between two turns, and its tokens"

    def states(self, group: Sequence[Trajectory]) -> Iterator[Snapshot]:
        for episode, rate, random in _judged(group, self.seed):
            states = [state for state in middle_states(episode) if state.turns < self.most]
            if states:
                yield Snapshot(episode.problem.id, (), rate, random.choice(states))

    def draw(self, name: str, problem: Problem, snapshot: Snapshot) -> Draw:
        assert snapshot.state is not None
        left = max(1, self.most - snapshot.state.turns)
        short = self.new is not None and self.new < left
        most = left if self.new is None else min(self.new, left)
        return Draw(name, problem, state=snapshot.state, max_turns=most, short=short)


def saved(snapshot: Snapshot) -> list[Any]:
    """The state as JSON has it."""
    state = [] if snapshot.state is None else [by_field(snapshot.state)]
    return [snapshot.problem, list(snapshot.prefix_ids), snapshot.value, *state]


def restored(values: Sequence[Any]) -> Snapshot:
    """The state that `saved` took apart."""
    problem, prefix_ids, value, *state = values
    return Snapshot(problem, tuple(prefix_ids), value, _state(state[0]) if state else None)


def _state(fields: Mapping[str, Any]) -> MiddleState:
    return MiddleState(**{**fields, **{name: tuple(fields[name]) for name in ("prompt_ids", "tools")}})


def _judged(group: Sequence[Trajectory], seed: int) -> Iterator[tuple[Trajectory, float, Random]]:
    """Episodes with a score, the pass rate of their group, and what draws a cut."""
    rate = pass_rate(group)
    for episode in group:
        if rate is not None and episode.turns and episode.earned is not None:
            yield episode, rate, Random(f"{seed}/cut/{episode.group}/{episode.episode}")
