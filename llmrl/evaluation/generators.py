"""Generators of answers to a benchmark's problems: an engine of llmrl; `remote` has those of a server."""

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
    """An episode of one turn and its length in tokens, for a server gives no token ids."""

    trajectory: Trajectory
    tokens: int


class Generator(Protocol):
    """Answers problems."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings besides the sampling that affect answers; plain values, stored with them and compared on resume."""
        ...

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        """Generate an answer; a problem that cannot be asked, such as a prompt too long, gives status `error`."""
        ...


@dataclass(frozen=True)
class EngineGenerator:
    """Asks an engine, through the chat template and the environment `single_turn`."""

    engine: Engine
    chat: Chat
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_prompt_tokens: int | None = None  # None: whatever the engine takes
    max_model_len: int | None = None  # tokens of prompt and answer, where the engine has such a limit

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        """Play an episode.

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
    """Make an episode of status `error` without turns, for a problem that was not asked."""
    return Played(Trajectory(problem=problem, turns=[], status="error", reason=reason), 0)
