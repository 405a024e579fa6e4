"""Text environments with Gymnasium's methods: `reset(seed)`, `step(action)`, `close()`."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llmrl.errors import RecipeError
from llmrl.plugins import find
from llmrl.protocols import Isolation
from llmrl.types import Message, Observation, Problem

SCALARS = (int, float)


@dataclass(slots=True)
class GymnasiumEpisode:
    """An episode: observations are messages of the user, answers are actions, rewards are those of turns."""

    env: Any
    problem: Problem
    options: Gymnasium

    async def reset(self) -> Observation:
        """Return the problem's messages with the first observation."""
        digest = hashlib.blake2b(self.problem.id.encode(), digest_size=4).digest()
        seen, _ = self.env.reset(seed=int.from_bytes(digest, "big"), options=dict(self.problem.info) or None)
        return Observation(messages=[*self.problem.messages, _message(self.options.shown(seen))])

    async def step(self, message: Message) -> Observation:
        """Act; an answer that is no action is answered with the reason."""
        try:
            action = self.options.acted(str(message.get("content") or "").strip())
        except ValueError as error:
            return Observation(messages=[_message(f"That is no action: {error}")])
        seen, reward, terminated, truncated, info = self.env.step(action)
        if not (terminated or truncated):
            return Observation(messages=[_message(self.options.shown(seen))], reward=float(reward))
        numbers = {key: float(value) for key, value in info.items() if isinstance(value, SCALARS)}
        cut = bool(truncated and not terminated)
        return Observation(reward=float(reward), done=True, cut=cut, metrics=numbers)

    async def close(self) -> None:
        """Close it."""
        self.env.close()


@dataclass(frozen=True, kw_only=True)
class Gymnasium:
    """Options of the environment `gymnasium`. The same problem begins alike: its seed is made of the problem's id."""

    isolation: ClassVar[Isolation] = "thread"  # its methods block

    make_env: str  # package.module:function or class that makes one; or a registered id, such as FrozenLake-v1
    kwargs: Mapping[str, Any] = field(default_factory=dict)  # for that
    observation: str | None = None  # package.module:function, observation -> text; None: str
    action: str | None = None  # package.module:function, text -> action, ValueError where it is none; None: the text

    def __post_init__(self) -> None:
        for path in (self.observation, self.action):
            if path is not None:
                _imported(path)

    def make(self, problem: Problem) -> GymnasiumEpisode:
        """Make an environment for an episode."""
        if ":" in self.make_env:
            return GymnasiumEpisode(_imported(self.make_env)(**self.kwargs), problem, self)
        try:
            gymnasium = importlib.import_module("gymnasium")
        except ImportError as error:
            raise RecipeError(
                f"env.make_env {self.make_env!r}: {error}; expected the package gymnasium, or package.module:function"
            ) from None
        return GymnasiumEpisode(gymnasium.make(self.make_env, **self.kwargs), problem, self)

    def shown(self, observation: Any) -> str:
        """Text of an observation."""
        return str(observation if self.observation is None else _imported(self.observation)(observation))

    def acted(self, text: str) -> Any:
        """Action of a text; ValueError where it is none."""
        return text if self.action is None else _imported(self.action)(text)


def _imported(path: str) -> Callable[..., Any]:
    found: Callable[..., Any] = find("env", path, "env gymnasium")
    return found


def _message(text: str) -> Message:
    return {"role": "user", "content": text}


plugin = Gymnasium
