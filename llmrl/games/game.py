"""A game in text form over a frozen state, and its episodes in messages."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Literal, TypeVar

from llmrl.answers.thoughts import after_thoughts
from llmrl.errors import DataError
from llmrl.games.scores import Scale
from llmrl.protocols import Env
from llmrl.types import Message, Observation, Problem

S = TypeVar("S")
Ending = Literal["won", "lost", "cut"]
MAX_ACTION = 2000
"""Characters of an action. A longer text is read as an empty one, which is no action of any game."""


@dataclass(frozen=True, slots=True)
class Move(Generic[S]):
    """Consequence of an action."""

    state: S
    reply: str  # the text that the player reads next
    reward: float
    end: Ending | None = None  # cut: a limit ended the game, not the task itself
    legal: bool = True  # False: the text was no action of the game


@dataclass(frozen=True)
class TextGame(ABC, Generic[S]):
    """A game and the options of its environment: states are values, and every method is a function of its arguments.

    A start is a string from which `begin` makes a state, such as `1,1` or `crane`. Where the other side draws at
    random, it draws from a hash of seed and state: equal actions get equal replies.
    """

    instructions: bool = True  # the rules in words stand before the first text; False: nothing but the game's own

    rules: ClassVar[str]  # in words
    restores: ClassVar[bool] = True  # episodes give snapshots and go on from them

    def make(self, problem: Problem) -> GameEpisode[S]:
        """Make an episode of the problem, whose `info` has a `start`."""
        return GameEpisode(self, problem)

    def begun(self, problem: Problem) -> S:
        """The state at a problem's start.

        Raises:
            DataError: the problem has no start of this game.
        """
        start = problem.info.get("start")
        try:
            return self.begin(str(start))
        except ValueError as error:
            raise DataError(
                f"problem {problem.id}: info.start is {start!r:.80}, which {type(self).__name__} does not "
                f"take: {error}; make problems by data: {{name: games, env: ...}} with the options of this env"
            ) from None

    def first_messages(self, problem: Problem) -> Sequence[Message]:
        """The start of the problem as it is shown.

        Raises:
            DataError: the problem has no start of this game.
        """
        return [_shown(self.opening(self.begun(problem)))]

    def opening(self, state: S) -> str:
        """The first text: the rules, unless they are left out, and what is shown of the state."""
        return f"{self.rules}\n\n{self.shown(state)}" if self.instructions else self.shown(state)

    def forgets(self) -> bool:
        """True if each text replaces those before it: the state is shown whole, so the history tells nothing more."""
        return False

    def scale(self) -> Scale | None:
        """Scale of the returns with these options; None where nobody published one."""
        return None

    def family(self, start: str) -> str:
        """Name that starts share which are the same problem; they lie in the same split of the data."""
        return start

    @property
    def agents(self) -> Sequence[str]:
        """Agents of an episode, where several speak; none where a single player has it for itself."""
        return ()

    def facts(self, state: S) -> Mapping[str, Any]:
        """Facts of a state by name, on which sub-goals are predicates: its fields, where the game names no others."""
        return {entry.name: getattr(state, entry.name) for entry in fields(state)}  # type: ignore[arg-type]

    @abstractmethod
    def starts(self) -> Sequence[str]:
        """Every start, in an order that never changes."""

    @abstractmethod
    def begin(self, start: str) -> S:
        """The state at a start.

        Raises:
            ValueError: it is no start of this game.
        """

    @abstractmethod
    def shown(self, state: S) -> str:
        """The text that shows a state."""

    @abstractmethod
    def play(self, state: S, action: str) -> Move[S]:
        """Play an action, which may be any text."""

    @abstractmethod
    def actions(self, state: S) -> Sequence[str]:
        """Actions from which a random player draws; never empty before the end."""

    @abstractmethod
    def best(self, state: S) -> str:
        """The action of the scripted expert."""


class GameEpisode(Generic[S]):
    """An episode of a text game in messages (`llmrl.protocols.Env`); `state` is where it stands after `reset`."""

    def __init__(self, game: TextGame[S], problem: Problem) -> None:
        self.game = game
        self.problem = problem
        self.state: S
        self._actions: list[str] = []
        self._over = False
        self._moves = self._illegal = 0
        self._return = 0.0

    async def reset(self) -> Observation:
        """Show the start.

        Raises:
            DataError: the problem has no start of this game.
        """
        self.state = self.game.begun(self.problem)
        return Observation(messages=[_shown(self.game.opening(self.state))])

    async def step(self, message: Message) -> Observation:
        """Play the text of a message; thoughts before it are left out."""
        move = self._moved(self.game.play, message)
        if move.end is not None:
            return self._last(move)
        if self.game.forgets():
            text = self.game.opening(self.state)
            return Observation(messages=[_shown(text)], reward=move.reward, whole=True)
        return Observation(messages=[_shown(move.reply)], reward=move.reward)

    def _moved(self, play: Callable[[S, str], Move[S]], message: Message) -> Move[S]:
        """Play the text of a message by the rules, and count."""
        if self._over:
            raise ValueError(f"problem {self.problem.id}: the episode has ended; expected no further step")
        action = action_of(message)
        move = play(self.state, action)
        self.state = move.state
        self._actions.append(action)
        self._over = move.end is not None
        self._moves += 1
        self._illegal += not move.legal
        self._return += move.reward
        return move

    def _last(self, move: Move[S]) -> Observation:
        numbers = {"return": self._return, "moves": float(self._moves), "illegal": float(self._illegal)}
        if (scale := self.game.scale()) is not None:
            numbers["score"] = scale.score(self._return)
        return Observation(
            messages=[_shown(move.reply)],
            reward=move.reward,
            done=True,
            cut=move.end == "cut",
            verdict="correct" if move.end == "won" else "wrong",
            metrics=numbers,
        )

    async def snapshot(self) -> str:
        """The actions so far: the same start and actions lead to the same state."""
        return json.dumps(self._actions)

    async def restore(self, snapshot: str) -> Observation:
        """Play the actions of a snapshot from the start, in place of `reset`; return what the last of them showed."""
        return await played_again(self, snapshot)

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


async def played_again(episode: Env, snapshot: str) -> Observation:
    """Begin an episode, and play the actions of a snapshot; return what the last of them showed."""
    seen = await episode.reset()
    for action in json.loads(snapshot):
        seen = await episode.step({"role": "assistant", "content": action})
    return seen


def action_of(message: Message) -> str:
    """The action in a message: its text after the thoughts, without blanks around it; "" where it is too long."""
    content = message.get("content")
    text = after_thoughts(content).strip() if isinstance(content, str) else ""
    return text if len(text) <= MAX_ACTION else ""


def _shown(text: str) -> Message:
    return {"role": "user", "content": text}
