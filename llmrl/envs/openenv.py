"""Environments behind OpenEnv's servers: a session of `reset` and `step` over a WebSocket."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrl.clients.addresses import require_url
from llmrl.plugins import find
from llmrl.types import Message, Observation, Problem


@dataclass(slots=True)
class SessionClient:
    """A session with a server in OpenEnv's protocol, with JSON objects as actions and observations."""

    base_url: str
    max_message_mb: int = 100
    socket: Any = None

    async def reset(self, **given: Any) -> Mapping[str, Any]:
        """Begin an episode: `observation`, and perhaps `reward` and `done`."""
        return await self._asked("reset", given)

    async def step(self, action: Mapping[str, Any]) -> Mapping[str, Any]:
        """Act."""
        return await self._asked("step", dict(action))

    async def close(self) -> None:
        """End the session; safe to call twice."""
        socket, self.socket = self.socket, None
        if socket is not None:
            await socket.send(json.dumps({"type": "close"}))
            await socket.close()

    async def _asked(self, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        from websockets.asyncio.client import connect

        if self.socket is None:
            url = "ws" + self.base_url.removeprefix("http").removeprefix("ws").rstrip("/")
            self.socket = await connect(f"{url}/ws", max_size=self.max_message_mb << 20, proxy=None)
        await self.socket.send(json.dumps({"type": kind, "data": data}))
        reply = json.loads(await self.socket.recv())
        told: Mapping[str, Any] = reply.get("data") or {}
        if reply.get("type") == "error":
            raise RuntimeError(f"{self.base_url}: {kind}: {told.get('message', 'an error')} ({told.get('code')})")
        return told


@dataclass(slots=True)
class OpenEnvEpisode:
    """An episode: observations are messages of the user, answers are actions, rewards are those of turns."""

    client: Any
    problem: Problem
    options: OpenEnvServers

    async def reset(self) -> Observation:
        """Return the problem's messages with the first observation."""
        digest = hashlib.blake2b(self.problem.id.encode(), digest_size=4).digest()
        given = {"seed": int.from_bytes(digest, "big") >> 1, **self.options.reset}
        begun = await _awaited(self.client.reset(**given))
        return Observation(messages=[*self.problem.messages, self._message(begun)])

    async def step(self, message: Message) -> Observation:
        """Act; an answer that is no action is answered with the reason."""
        try:
            action = self.options.acted(str(message.get("content") or "").strip())
        except ValueError as error:
            return Observation(messages=[{"role": "user", "content": f"That is no action: {error}"}])
        result = await _awaited(self.client.step(action))
        reward, done = float(_field(result, "reward") or 0.0), bool(_field(result, "done"))
        return Observation(messages=[self._message(result)], reward=reward, done=done)

    async def close(self) -> None:
        """End the session."""
        await _awaited(self.client.close())

    def _message(self, result: Any) -> Message:
        return {"role": "user", "content": self.options.shown(_field(result, "observation"))}


@dataclass(frozen=True, kw_only=True)
class OpenEnvServers:
    """Options of the environment `openenv`. The same problem begins alike: its seed is made of the problem's id."""

    base_url: str = "http://127.0.0.1:8000"  # of the server
    client: str | None = None  # package.module:Class of OpenEnv's clients; None: one of our own, with JSON objects
    reset: Mapping[str, Any] = field(default_factory=dict, hash=False)  # further arguments of `reset`
    action_field: str = "message"  # of an action, which takes the text; without `action`
    action: str | None = None  # package.module:function, text -> action, ValueError where it is none
    observation: str | None = None  # package.module:function, observation -> text; None: its JSON

    def __post_init__(self) -> None:
        require_url(self.base_url, "http://127.0.0.1:8000", name="base_url", schemes=("http", "https", "ws", "wss"))
        for path in (self.client, self.action, self.observation):
            if path is not None:
                _imported(path)

    def make(self, problem: Problem) -> OpenEnvEpisode:
        """Make a client for an episode; it connects when it is reset."""
        made = SessionClient if self.client is None else _imported(self.client)
        return OpenEnvEpisode(made(base_url=self.base_url), problem, self)

    def acted(self, text: str) -> Any:
        """Action of a text; ValueError where it is none."""
        return {self.action_field: text} if self.action is None else _imported(self.action)(text)

    def shown(self, observation: Any) -> str:
        """Text of an observation."""
        if self.observation is not None:
            return str(_imported(self.observation)(observation))
        if isinstance(observation, str):
            return observation
        plain = observation.model_dump() if hasattr(observation, "model_dump") else observation
        return json.dumps(plain, ensure_ascii=False, default=str)


def _field(result: Any, name: str) -> Any:
    """A field of a result, whether an object of a client or plain JSON."""
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _imported(path: str) -> Callable[..., Any]:
    found: Callable[..., Any] = find("env", path, "env openenv")
    return found


plugin = OpenEnvServers
