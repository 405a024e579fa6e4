"""Environments that misbehave in a way of their own: each at a turn, by the number of its problem."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import ClassVar

from llmrl.types import Message, Observation, Problem


@dataclass
class Hostile:
    """Answers two messages with rewards 0.5, and is done with the third; `info["does"]` says what goes wrong where."""

    problem: Problem
    turns: int = 0

    async def reset(self) -> Observation:
        await self._maybe("reset")
        return Observation(messages=self.problem.messages)

    async def step(self, message: Message) -> Observation:
        self.turns += 1
        await self._maybe(f"step {self.turns}")
        if self.turns == 3:
            return Observation(reward=1.0, done=True, verdict="correct", metrics={"pid": float(os.getpid())})
        return Observation(messages=[{"role": "user", "content": "go on"}], reward=0.5)

    async def close(self) -> None:
        await self._maybe("close")

    async def _maybe(self, place: str) -> None:
        does = dict(self.problem.info.get("does", {})).get(place)
        if does == "hang":
            await asyncio.sleep(3600)
        elif does == "block":
            time.sleep(self.problem.info.get("seconds", 3600))
        elif does == "die":
            os._exit(3)
        elif does == "raise":
            raise OSError(f"{place} broke")


@dataclass(frozen=True)
class Hostiles:
    isolation: ClassVar[str] = "inline"

    def make(self, problem: Problem) -> Hostile:
        return Hostile(problem)


@dataclass
class Counted(Hostile):
    """Counts how many are open at once."""

    owner: Counting = field(kw_only=True)

    async def reset(self) -> Observation:
        self.owner.open += 1
        self.owner.most = max(self.owner.most, self.owner.open)
        await asyncio.sleep(0.001)
        return await super().reset()

    async def close(self) -> None:
        self.owner.open -= 1


@dataclass
class Counting:
    max_open_envs: int | None = None
    open: int = 0
    most: int = 0

    def make(self, problem: Problem) -> Counted:
        return Counted(problem, owner=self)
