"""One question, one answer: the environment of most verifiable rewards."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.types import Message, Observation, Problem


@dataclass(frozen=True)
class Episode:
    """Shows the problem and ends with the first answer; the reward is somebody else's to give."""

    problem: Problem

    async def reset(self) -> Observation:
        """The problem's messages."""
        return Observation(messages=self.problem.messages)

    async def step(self, message: Message) -> Observation:
        """The end."""
        return Observation(done=True)

    async def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class SingleTurn:
    """Episodes of one turn."""

    def make(self, problem: Problem) -> Episode:
        """An episode of this problem."""
        return Episode(problem)


plugin = SingleTurn
