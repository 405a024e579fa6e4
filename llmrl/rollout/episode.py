"""Play an episode: the policy and its environment in turn, until one of them or a limit ends it."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from llmrl.chat import Chat
from llmrl.errors import DataError, LlmrlError
from llmrl.protocols import Engine, EnvFactory
from llmrl.recipe import RolloutOptions
from llmrl.rollout.environments import Environments, OpenEnv
from llmrl.tool_calls.completions import parsed
from llmrl.types import Message, Observation, Problem, Sampling, Status, Trajectory, Turn

TurnSampling = Callable[[int], Sampling]
"""Sampling of a turn, by its number."""


class PromptTooLongError(DataError):
    """The first prompt of an episode has more tokens than allowed."""

    def __init__(self, message: str, tokens: int) -> None:
        super().__init__(message)
        self.tokens = tokens


@dataclass(slots=True)
class OpenEpisode:
    """Observations and turns of an episode so far: whatever breaks, they are kept."""

    turns: list[Turn] = field(default_factory=list)
    first: Observation | None = None
    last: Observation = field(default_factory=Observation)

    def trajectory(self, problem: Problem, status: Status, reason: str, group: str, episode: int) -> Trajectory:
        """The episode as a value."""
        return Trajectory(
            problem=problem,
            turns=self.turns,
            status=status,
            reason=reason,
            group=group,
            episode=episode,
            shown=None if self.first is None else self.first.messages,
            tools=() if self.first is None else self.first.tools,
            verdict=self.last.verdict if status in ("done", "cut") else None,
            metrics=self.last.metrics,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodePlayer:
    """Plays episodes by an engine, in an environment, within the limits of `options`; nothing is scored."""

    engine: Engine
    chat: Chat
    env: EnvFactory
    options: RolloutOptions
    max_model_len: int | None = None  # tokens that the engine takes; None: as many as the options need
    environments: Environments = field(default_factory=Environments, compare=False)

    async def play(
        self,
        problem: Problem,
        sampling: TurnSampling,
        prefix_ids: Sequence[int] = (),
        group: str = "",
        episode: int = 0,
    ) -> Trajectory:
        """Play an episode. Whatever the environment does, there is a trajectory, with all turns that were finished.

        Args:
            problem: that the environment is made for.
            sampling: of each turn.
            prefix_ids: tokens from which the first turn goes on as if the policy had sampled them: they are part of its
                text and count towards its limit, but they are no actions.
            group, episode: its name.
        Raises:
            LlmrlError: what llmrl itself refuses.
        """
        played = OpenEpisode()
        status: Status
        try:
            async with self.environments.open(self.env, problem, self.options) as env, self._timed():
                status = await self._talk(env, problem, played, sampling, list(prefix_ids))
            reason = env.fault
        except LlmrlError:
            raise
        except Exception as error:  # a bad episode is data
            status, reason = "error", f"{type(error).__name__}: {error}"
        return played.trajectory(problem, status, reason, group, episode)

    async def _talk(
        self, env: OpenEnv, problem: Problem, played: OpenEpisode, sampling: TurnSampling, prefix: list[int]
    ) -> Status:
        """Play turns until the environment or a limit ends the episode; return which."""
        played.first = seen = await env.reset()
        past, tools = list(seen.messages), seen.tools
        prompt = array("i", self._prompt(problem, past, tools) + prefix)
        while True:
            wanted = sampling(len(played.turns))
            completion = await self.engine.generate(
                prompt, replace(wanted, max_tokens=wanted.max_tokens - len(prefix)) if prefix else wanted
            )
            text = self.chat.text([*prefix, *completion.token_ids])
            answer: Message = {"role": "assistant", "content": text}
            read = self._with_calls(answer, [*prefix, *completion.token_ids]) if tools else answer
            prefix = []
            played.turns.append(Turn(prompt_ids=prompt, completion=completion, text=text))
            played.last = seen = await env.step(read)
            played.turns[-1] = replace(played.turns[-1], reply=seen.messages, reward=seen.reward, whole=seen.whole)
            if seen.done:
                return "cut" if seen.cut else "done"
            if completion.finish == "length" and self.options.overlong_turns == "end":
                return "max_tokens"
            if len(played.turns) == self.options.max_turns:
                return "max_turns"
            past, tools = [*past, answer], seen.tools or tools
            prompt = array("i", self._next_prompt([*prompt, *completion.token_ids], past, seen, tools))
            if len(prompt) >= self._room:
                return "max_tokens"
            past = list(seen.messages) if seen.whole else [*past, *seen.messages]

    def _with_calls(self, answer: Message, token_ids: Sequence[int]) -> Message:
        """The answer as an environment with tools reads it: with `tool_calls`, or why none can be read."""
        read = parsed(self.chat, token_ids)
        if read.error:
            return {**answer, "tool_error": read.error}
        return read.message() if read.calls else answer

    @property
    def _room(self) -> int:
        return min(self.options.max_length, self.max_model_len or self.options.max_length)

    def _next_prompt(
        self, previous: Sequence[int], past: Sequence[Message], seen: Observation, tools: Sequence[Mapping[str, Any]]
    ) -> list[int]:
        """The prompt behind a reply: it extends the last, or is another, in which a sample of its own begins."""
        if seen.whole:
            return self.chat.prompt_ids(seen.messages, tools)
        return self.chat.next_prompt(previous, past, seen.messages, tools)

    def _prompt(self, problem: Problem, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        prompt = self.chat.prompt_ids(messages, tools)
        if len(prompt) > self.options.max_prompt_length:
            raise PromptTooLongError(
                f"problem {problem.id}: its prompt has {len(prompt)} tokens, rollout.max_prompt_length is "
                f"{self.options.max_prompt_length}; raise it, or leave the problem out of the data",
                len(prompt),
            )
        return prompt

    @asynccontextmanager
    async def _timed(self) -> AsyncIterator[None]:
        """End the block after `episode_timeout_s`, by an error that says so."""
        seconds = self.options.episode_timeout_s
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(f"it took longer than {seconds:g} s (rollout.episode_timeout_s)") from None
            raise
