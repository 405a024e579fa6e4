"""Episodes of a question and an answer: the environment of most verifiable rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrl.types import Message, Observation, Problem


@dataclass(frozen=True)
class Episode:
    """Episode that shows the problem and ends with the first answer; the reward is given elsewhere."""

    problem: Problem

    async def reset(self) -> Observation:
        """Return the problem's messages."""
        return Observation(messages=self.problem.messages)

    async def step(self, message: Message) -> Observation:
        """End the episode."""
        return Observation(done=True)

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


@dataclass(frozen=True)
class SingleTurn:
    """Options of the environment: there are none."""

    def first_messages(self, problem: Problem) -> Sequence[Message]:
        """The problem's messages."""
        return problem.messages

    def make(self, problem: Problem) -> Episode:
        """Make an episode of this problem."""
        return Episode(problem)


plugin = SingleTurn
