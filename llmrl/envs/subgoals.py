"""A text game with sub-goals: a bonus for each that is reached in order, and hints that name the next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from llmrl.errors import DataError
from llmrl.games.game import GameEpisode, TextGame, played_again
from llmrl.ops.subgoals import bonus
from llmrl.plugins import build_held, holds, name_of
from llmrl.recipe.ranges import PositiveShare, Share
from llmrl.types import Message, Observation, Problem

Goal = Mapping[str, Any]
"""`{text: enter the kitchen, when: {room: kitchen}}`: words for a hint, and the facts of a state that reach it."""


@dataclass(frozen=True, kw_only=True)
class Subgoals:
    """Options of the environment `subgoals`.

    A sub-goal is a predicate on the state of the game, whoever proposed it: no model judges whether it was reached.
    Source: Words as Beacons, as potential-based shaping; its grids are not here.
    `llmrl.datagen.subgoals` asks a model for sub-goals.
    """

    env: TextGame[Any] = field(metadata=holds("env"))  # a text game
    goals: Sequence[Goal] = ()  # in their order
    goals_column: str | None = None  # of a problem's `info`: its own goals, in place of `goals`
    alpha: Share = 0.3  # bonus of all together, at most 0.5: finishing must earn more
    gamma: PositiveShare = 1.0  # discount of the potential
    hint_share: Share = 0.0  # of the problems, drawn by a hash of the id, whose texts end with the next sub-goal

    restores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        build_held(self)
        if not isinstance(self.env, TextGame) or self.env.agents:
            raise ValueError(f"env {name_of('env', self.env)}: expected a text game of one player")
        if not 0 <= self.alpha <= 0.5 or not 0 < self.gamma <= 1 or not 0 <= self.hint_share <= 1:
            raise ValueError(
                f"alpha {self.alpha}, gamma {self.gamma}, hint_share {self.hint_share}: expected 0 to 0.5, above 0 to "
                "1, and 0 to 1"
            )
        if bool(self.goals) == (self.goals_column is not None):
            raise ValueError("expected either goals, at least one, or a goals_column of the data")
        self._checked(self.goals, "goals")

    def first_messages(self, problem: Problem) -> Sequence[Message]:
        """Messages of the game; a hint comes on top."""
        return self.env.first_messages(problem)

    def make(self, problem: Problem) -> SubgoalEpisode:
        """Make an episode of the game.

        Raises:
            DataError: the problem has no goals, or some that the game knows no facts of.
        """
        goals = self.goals
        if self.goals_column is not None:
            goals = problem.info.get(self.goals_column) or ()
            try:
                self._checked(goals, f"info.{self.goals_column}")
            except ValueError as error:
                raise DataError(f"problem {problem.id}: {error}") from None
            if not goals:
                raise DataError(f"problem {problem.id}: info.{self.goals_column} has no goals; expected at least one")
        digest = hashlib.blake2b(f"subgoals/{problem.id}".encode(), digest_size=8).digest()
        hinted = int.from_bytes(digest) < self.hint_share * 2**64
        return SubgoalEpisode(self.env.make(problem), goals, self, hinted)

    def _checked(self, goals: Sequence[Goal], place: str) -> None:
        known = self.env.facts(self.env.begin(self.env.starts()[0]))
        for number, goal in enumerate(goals):
            if fault := goal_fault(goal, known):
                raise ValueError(f"{place}[{number}]{fault}")


@dataclass(slots=True)
class SubgoalEpisode:
    """An episode of the game with bonuses: `reached` of the goals so far."""

    inner: GameEpisode[Any]
    goals: Sequence[Goal]
    options: Subgoals
    hinted: bool
    reached: int = 0

    async def reset(self) -> Observation:
        """Show the start; goals that it fulfils already earn nothing."""
        seen = await self.inner.reset()
        self.reached = self._reached(0)
        return self._with_hint(seen)

    async def step(self, message: Message) -> Observation:
        """Play a move; its reward has the bonus."""
        seen, before = await self.inner.step(message), self.reached
        self.reached = self._reached(before)
        added = bonus(before, self.reached, len(self.goals), self.options.alpha, self.options.gamma)
        metrics = {**seen.metrics, "subgoals": self.reached / len(self.goals)} if seen.done else seen.metrics
        return self._with_hint(replace(seen, reward=seen.reward + added, metrics=metrics))

    async def snapshot(self) -> str:
        """The snapshot of the game."""
        return await self.inner.snapshot()

    async def restore(self, snapshot: str) -> Observation:
        """Play its actions from the start: goals are reached on the way."""
        return await played_again(self, snapshot)

    async def close(self) -> None:
        """Close the game."""
        await self.inner.close()

    def _reached(self, count: int) -> int:
        facts = self.inner.game.facts(self.inner.state)
        for goal in self.goals[count:]:
            if not goal_holds(goal, facts):
                break
            count += 1
        return count

    def _with_hint(self, seen: Observation) -> Observation:
        if not self.hinted or seen.done or self.reached == len(self.goals):
            return seen
        *before, last = seen.messages
        hint = f"{last['content']}\nNext: {self.goals[self.reached]['text']}."
        return replace(seen, messages=[*before, {**last, "content": hint}])


def goal_fault(goal: Any, known: Mapping[str, Any]) -> str:
    """Say why a value is no sub-goal, as the end of a message that names its place; "" where it is one.

    Args:
        known: facts of any state of the game.
    """
    when = goal.get("when") if isinstance(goal, Mapping) else None
    if not isinstance(when, Mapping) or not when or not isinstance(goal.get("text"), str):
        return f" {goal!r:.80}: expected text, and when: facts of the state"
    if unknown := sorted(str(name) for name in set(when) - set(known)):
        return f": {', '.join(unknown)}: expected facts among {', '.join(known)}"
    for name, wanted in when.items():
        if not all(isinstance(value, str | int | float | None) for value in _members(wanted)):
            return f": {name} is {wanted!r:.80}: expected a text, a number, a truth value or a list of these"
    return ""


def goal_holds(goal: Goal, facts: Mapping[str, Any]) -> bool:
    """True if the facts of a state reach a sub-goal."""
    return all(_holds(facts[name], wanted) for name, wanted in goal["when"].items())


def _members(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list | tuple) else (wanted,)


def _holds(fact: Any, wanted: Any) -> bool:
    """True if a fact is the wanted one, or holds it among its members."""
    if isinstance(fact, tuple | list | frozenset | set) and not isinstance(wanted, list | tuple):
        return wanted in fact
    both = isinstance(fact, list | tuple) and isinstance(wanted, list | tuple)
    return list(fact) == list(wanted) if both else bool(fact == wanted)


plugin = Subgoals
