"""Who answers the problems of a benchmark: an engine of llmrl; a server is asked by `_remote`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmrl.chat import Chat
from llmrl.plugins import build
from llmrl.protocols import Engine
from llmrl.types import Problem, Sampling, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Played:
    """An episode of one turn, and its length, which a server tells without the tokens themselves."""

    trajectory: Trajectory
    tokens: int


class Generator(Protocol):
    """Answers problems."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the answers besides the sampling; plain values, stored with them and compared on resuming."""
        ...

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        """One answer. What cannot be asked, such as a prompt that is too long, is a trajectory of status `error`."""
        ...


@dataclass(frozen=True)
class EngineGenerator:
    """Asks an engine, through the chat template and the environment `single_turn`."""

    engine: Engine
    chat: Chat
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_prompt_tokens: int | None = None  # None: whatever the engine takes

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        """One episode.

        Raises:
            EngineError: the engine failed.
        """
        env = build("env", "single_turn").make(problem)
        try:
            shown = await env.reset()
            prompt = self.chat.prompt_ids(shown.messages, shown.tools)
            if self.max_prompt_tokens is not None and len(prompt) > self.max_prompt_tokens:
                return refused(problem, f"a prompt of {len(prompt)} tokens; at most {self.max_prompt_tokens} fit")
            completion = await self.engine.generate(prompt, sampling)
            text = self.chat.text(completion.token_ids)
            reply = await env.step({"role": "assistant", "content": text})
        finally:
            await env.close()
        turn = Turn(prompt_ids=prompt, completion=completion, text=text, reply=reply.messages, reward=reply.reward)
        return Played(Trajectory(problem=problem, turns=[turn], status="done"), len(completion.token_ids))


def refused(problem: Problem, reason: str) -> Played:
    """The episode that never was."""
    return Played(Trajectory(problem=problem, turns=[], status="error", reason=reason), 0)
