"""A game of two players in text: of one against a scripted opponent, or with an agent on either side."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, TypeVar

from llmrl.games.game import GameEpisode, Move, TextGame
from llmrl.recipe.ranges import Seed
from llmrl.types import Message, Observation, Problem

S = TypeVar("S")
Rival = Literal["random", "perfect", "agent"]
PLAYERS = ("first", "second")
"""Agents of a game that both sides play by agents, in the order of their turns."""


@dataclass(frozen=True)
class DuelGame(TextGame[S]):
    """A game whose players move in turn; `ply` is the move of whoever is to move.

    Rewards: 1 for the player who wins, -1 for the other. A text that is no move loses; the other gets nothing for that.
    With `opponent: agent` agents play both sides (`PLAYERS`), each in a conversation of its own, and the environment's
    verdict is that of `player`: correct where it won.
    """

    opponent: Rival = "random"  # agent: both sides are agents of the episode
    player: Literal["first", "second"] = "first"  # the side of the policy, by which the verdict goes
    seed: Seed = 0  # of a random opponent

    @property
    def agents(self) -> Sequence[str]:
        """Both players where agents play; none against a scripted opponent."""
        return PLAYERS if self.opponent == "agent" else ()

    def make(self, problem: Problem) -> Any:
        """Make an episode of the problem, whose `info` has a `start`."""
        return DuelEpisode(self, problem) if self.opponent == "agent" else GameEpisode(self, problem)

    def forgets(self) -> bool:
        """True: the state is shown whole."""
        return True

    @abstractmethod
    def ply(self, state: S, action: str) -> Move[S]:
        """The move of the player whose turn it is: `won` where it ends the game for that player."""

    @abstractmethod
    def wins(self, state: S) -> bool:
        """True if the player to move wins with best play; exact."""

    @abstractmethod
    def deal(self, start: str) -> S:
        """The state at a start, the first player to move.

        Raises:
            ValueError: it is no start of this game.
        """

    def begin(self, start: str) -> S:
        """The state at a start: behind the opponent's move where the policy is second."""
        state = self.deal(start)
        alone = self.player == "second" and self.opponent != "agent"
        return self.ply(state, self.reply(state)).state if alone else state

    def reply(self, state: S) -> str:
        """The action of the scripted opponent: it draws from a hash of seed and state, or plays best."""
        if self.opponent == "perfect":
            return self.best(state)
        return Random(f"{type(self).__name__}/{self.seed}/{state}").choice(self.actions(state))

    def play(self, state: S, action: str) -> Move[S]:
        """The policy's move and the opponent's answer."""
        own = self.ply(state, action)
        if own.end is not None:
            return own
        answer = self.ply(own.state, self.reply(own.state))
        lost = answer.end is not None
        return Move(answer.state, self.shown(answer.state), -1.0 if lost else 0.0, "lost" if lost else None)


class DuelEpisode(GameEpisode[S]):
    """An episode of two agents, `first` and `second`; each is shown the state when it is to move."""

    def __init__(self, game: DuelGame[S], problem: Problem) -> None:
        super().__init__(game, problem)
        self._rules = game
        self._won_states = self._kept = 0  # in which the mover wins with best play; those that its move kept won

    async def reset(self) -> Observation:
        """Show the start to the first player."""
        return replace(await super().reset(), agent=PLAYERS[0])

    async def step(self, message: Message) -> Observation:
        """Play the move of the player whose turn it is; show the state to the other."""
        mover, other = PLAYERS[self._moves % 2], PLAYERS[(self._moves + 1) % 2]
        winning = self._rules.wins(self.state)
        move = self._moved(self._rules.ply, message)
        lost = move.end == "lost"
        self._won_states += winning
        self._kept += winning and not lost and (move.end == "won" or not self._rules.wins(move.state))
        if move.end is None:
            shown: Message = {"role": "user", "content": self._rules.opening(self.state)}
            return Observation(messages=[shown], agent=other, whole=True)
        winner = other if lost else mover
        return Observation(
            agent=other,
            reward=-1.0 if lost else 1.0,
            rewards={other: 0.0 if not move.legal else -move.reward},
            done=True,
            verdict="correct" if winner == self._rules.player else "wrong",
            metrics={
                "moves": float(self._moves),
                "illegal": float(self._illegal),
                "first_won": float(winner == PLAYERS[0]),
                "best_moves": self._kept / self._won_states if self._won_states else 1.0,
            },
        )
