"""Contract of a simulated user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from llmrl.types import Message, Problem


@dataclass(frozen=True, slots=True)
class UserReply:
    """A line of the user."""

    text: str
    ends: bool = False  # the user leaves


@runtime_checkable
class UserSimulator(Protocol):
    """A model of a user: it speaks, and rates conversations that it, or another, has had.

    It holds options and no conversation: what it says follows from the problem and the messages alone, so that any of a
    set can rate what another has played. In the messages the policy is `assistant`.
    """

    async def reply(self, problem: Problem, conversation: Sequence[Message]) -> UserReply:
        """Give the next line; the first where the conversation is empty."""

    async def rate(self, problem: Problem, conversation: Sequence[Message]) -> float:
        """Rate a conversation from 0 to 1, as the user would."""
