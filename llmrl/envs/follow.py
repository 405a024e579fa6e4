"""Following an instruction in a text game: done right where the game ends up as a reference way leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrl.errors import DataError
from llmrl.games.game import TextGame, action_of
from llmrl.ops.fidelity import success_by_length
from llmrl.plugins import build_held, holds, name_of
from llmrl.recipe.ranges import Positive
from llmrl.types import Message, Observation, Problem

STOP = "done"
"""The action that ends an episode, by which the policy says that it has followed the instruction."""


@dataclass(slots=True)
class FollowEpisode:
    """An episode (`llmrl.protocols.Env`) in which a game is played from a start until `done`."""

    game: TextGame[Any]
    problem: Problem
    goal: str  # the text that shows the state in which the reference ends
    shortest: int  # actions of the reference
    most: int
    state: Any
    taken: int = 0

    async def reset(self) -> Observation:
        """Show the instruction, which is the problem's text, and the start."""
        return Observation(messages=_shown(self.problem, self.game, self.state))

    async def step(self, message: Message) -> Observation:
        """Play an action, or end; success counts as much as the way was short."""
        action = action_of(message)
        if action == STOP:
            return self._ended(cut=False)
        move = self.game.play(self.state, action)
        self.state, self.taken = move.state, self.taken + 1
        if move.end is not None or self.taken == self.most:
            return self._ended(cut=move.end is None)
        return Observation(messages=[{"role": "user", "content": move.reply}])

    def _ended(self, cut: bool) -> Observation:
        right = self.game.shown(self.state) == self.goal
        fidelity = success_by_length(float(right), self.shortest, self.taken)
        return Observation(
            reward=fidelity,
            done=True,
            cut=cut and not right,
            verdict="correct" if right else "wrong",
            metrics={"fidelity": fidelity, "moves": float(self.taken)},
        )

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


@dataclass(frozen=True, kw_only=True)
class Follow:
    """Options of the environment `follow`; a problem's `info` has the game's `start` and the `reference`, its actions.

    The reward is success weighed by the length of the way: reference / max(taken, reference), or 0.
    """

    env: TextGame[Any] = field(metadata=holds("env"))  # a text game
    slack: Positive = 2.0  # actions that an episode may take, in lengths of the reference

    def __post_init__(self) -> None:
        build_held(self)
        if not isinstance(self.env, TextGame) or self.env.agents:
            raise ValueError(f"env {name_of('env', self.env)}: expected a text game of one player")
        if not self.slack >= 1:
            raise ValueError(f"slack {self.slack}: expected at least 1")

    def first_messages(self, problem: Problem) -> Sequence[Message]:
        """The instruction and the start.

        Raises:
            DataError: as `make`.
        """
        return _shown(problem, self.env, self.make(problem).state)

    def make(self, problem: Problem) -> FollowEpisode:
        """Make an episode of the instruction.

        Raises:
            DataError: the problem has no start of the game, no reference, or one that ends where it begins.
        """
        reference = problem.info.get("reference")
        if not isinstance(reference, Sequence) or isinstance(reference, str) or not reference:
            raise DataError(f"problem {problem.id}: info.reference {reference!r:.80}: expected actions, at least one")
        try:
            state = self.env.begin(str(problem.info.get("start")))
        except ValueError as error:
            raise DataError(f"problem {problem.id}: info.start: {error}") from None
        end = state
        for action in reference:
            end = self.env.play(end, str(action)).state
        goal = self.env.shown(end)
        if goal == self.env.shown(state):
            raise DataError(
                f"problem {problem.id}: info.reference ends where it begins, by what the game shows: doing nothing "
                "would be right; leave the task out"
            )
        most = max(1, round(self.slack * len(reference)))
        return FollowEpisode(self.env, problem, goal, len(reference), most, state)


def _shown(problem: Problem, game: TextGame[Any], state: Any) -> Sequence[Message]:
    *before, last = problem.messages
    return [*before, {**last, "content": f"{last['content']}\n\n{game.shown(state)}"}]


plugin = Follow
