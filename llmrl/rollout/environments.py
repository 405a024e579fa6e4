"""Open environments: as many at once as allowed, each call within its time, each in its place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from llmrl.datafiles.images import filled
from llmrl.datafiles.messages import message_of
from llmrl.protocols import EnvFactory, Isolation
from llmrl.recipe import RolloutOptions
from llmrl.rollout.isolation import PLACES, EnvPlace
from llmrl.scoring.trl_functions import finite
from llmrl.types import Message, Observation, Problem


@runtime_checkable
class Foreseen(Protocol):
    """A plug-in of an environment that knows, from the problem alone, how an episode's first prompt begins."""

    def first_messages(self, problem: Problem) -> Sequence[Message]:
        """Messages that the first prompt has, or has at least; nothing is opened or asked for them."""


@dataclass(slots=True)
class OpenEnv:
    """An environment in its place, each call bounded. `fault` says what `close` met: it costs no finished episode."""

    place: EnvPlace
    timeout_s: float
    fault: str = ""

    async def reset(self) -> Observation:
        """The first observation; raises what the environment does, or TimeoutError."""
        return _observed("reset", await self.place.call(self.timeout_s, "reset"))

    async def step(self, message: Message) -> Observation:
        """The answer to a message; raises what the environment does, or TimeoutError."""
        return _observed("step", await self.place.call(self.timeout_s, "step", message))

    async def snapshot(self) -> str:
        """Its state, for `restore` of another of its problem; raises what the environment does, or TimeoutError."""
        return str(await self.place.call(self.timeout_s, "snapshot"))

    async def restore(self, snapshot: str) -> Observation:
        """Go to that state in place of `reset`, and show it; raises what the environment does, or TimeoutError."""
        return _observed("restore", await self.place.call(self.timeout_s, "restore", snapshot))

    async def close(self) -> None:
        """Close it, where it can be reached; a failure becomes `fault`."""
        if self.place.lost:
            return
        try:
            await self.place.call(self.timeout_s, "close")
        except Exception as error:
            self.fault = f"its environment did not close: {type(error).__name__}: {error}"


@dataclass(slots=True)
class Environments:
    """Opens environments, at most `rollout.max_open_envs` at once; the others wait. Processes are used again."""

    _gate: asyncio.Semaphore | None = None
    _idle: list[tuple[EnvFactory, EnvPlace]] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, factory: EnvFactory, problem: Problem, options: RolloutOptions) -> AsyncIterator[OpenEnv]:
        """Make an environment for a problem, and close it behind the block, in whatever way that ends."""
        declared: Isolation = getattr(factory, "isolation", "inline")
        isolation = options.env_isolation or declared
        async with self._bounded(factory, options, isolation):
            place = self._place(factory, isolation)
            env = OpenEnv(place, options.env_timeout_s)
            try:
                await place.call(options.env_timeout_s, "make", problem.copied())  # it may change what it is given
                try:
                    yield env
                finally:
                    await env.close()
            finally:
                if place.release():
                    self._idle.append((factory, place))

    def _bounded(self, factory: EnvFactory, options: RolloutOptions, isolation: Isolation) -> Any:
        """The gate that all episodes pass, where there is a bound: it is made by the first."""
        processes = 2 * (os.cpu_count() or 1) if isolation == "process" else None
        most = options.max_open_envs or getattr(factory, "max_open_envs", None) or processes
        if most is None:
            return nullcontext()
        self._gate = self._gate or asyncio.Semaphore(most)
        return self._gate

    def _place(self, factory: EnvFactory, isolation: Isolation) -> EnvPlace:
        known = next((pair for pair in self._idle if pair[0] is factory), None)
        if known is None:
            return PLACES[isolation](factory)
        self._idle.remove(known)
        return known[1]


def _observed(method: str, value: Any) -> Observation:
    if not isinstance(value, Observation):
        raise TypeError(f"the environment's {method} returned {type(value).__name__}; expected an Observation")
    for reward in (value.reward, *value.rewards.values()):
        try:
            finite(reward)
        except ValueError as error:
            raise ValueError(f"the environment's {method}: a reward {error}") from None
    return replace(value, messages=filled([_read(one) for one in value.messages], None, None))


def _read(message: Message) -> Message:
    """The message with its content as text with marks, where it has parts or pictures."""
    if isinstance(message.get("content"), list) or message.get("images"):
        return message_of(message, "the environment", pictures=True)
    return message
