"""Play an episode: the policy and its environment in turn, until one of them or a limit ends it."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from llmrl.chat import Chat
from llmrl.datafiles.images import images_of
from llmrl.errors import DataError, EngineError, LlmrlError
from llmrl.protocols import Engine, EnvFactory
from llmrl.recipe import RolloutOptions
from llmrl.rollout.environments import Environments, OpenEnv
from llmrl.rollout.middle import MiddleState
from llmrl.tool_calls.completions import parsed
from llmrl.types import POLICY, Message, Observation, Problem, Sampling, Status, Trajectory, Turn
from llmrl.vision.engines import seeing

TurnSampling = Callable[[int], Sampling]
"""Sampling of a turn, by its number."""


class PromptTooLongError(DataError):
    """The first prompt of an episode has more tokens than allowed."""

    def __init__(self, message: str, tokens: int) -> None:
        super().__init__(message)
        self.tokens = tokens


@dataclass(slots=True)
class Conversation:
    """An agent's side of an episode: the messages so far, the tokens that spell them, and its tools."""

    past: list[Message] = field(default_factory=list)
    ids: Sequence[int] = ()  # of its last prompt and completion
    tools: Sequence[Mapping[str, Any]] = ()
    spoke: bool = False
    waits: bool = False  # `ids` are a prompt that nobody has answered yet

    def say(self, answer: Message, ids: Sequence[int]) -> None:
        """Add what the agent said."""
        self.past, self.ids, self.spoke = [*self.past, answer], ids, True


@contextmanager
def _border(kind: type[LlmrlError], what: str) -> Iterator[None]:
    """Name what has broken where it is not the environment: then the episode is no data, but a fault to mend.

    Raises:
        LlmrlError: of that kind, where anything else was raised.
    """
    try:
        yield
    except LlmrlError:
        raise
    except Exception as error:
        raise kind(f"{what}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Opponent:
    """Another model, which speaks for an agent."""

    model: str  # its name, for the log
    engine: Engine
    temperature: float | None = None  # of its sampling; None: that of the policy


@dataclass(slots=True)
class OpenEpisode:
    """Observations and turns of an episode so far: whatever breaks, they are kept."""

    turns: list[Turn] = field(default_factory=list)
    first: Observation | None = None
    last: Observation = field(default_factory=Observation)
    sides: dict[str, Conversation] = field(default_factory=dict)  # by agent

    def answer(self, seen: Observation) -> None:
        """Add the environment's answer to the last turn, and its rewards to the last turns of the other agents."""
        self.last = seen
        self.turns[-1] = replace(self.turns[-1], reply=seen.messages, reward=seen.reward, whole=seen.whole)
        for agent, reward in seen.rewards.items():
            number = next((n for n in reversed(range(len(self.turns))) if self.turns[n].agent == agent), None)
            if number is not None:  # an agent that has not spoken has nothing to learn from
                self.turns[number] = replace(self.turns[number], reward=self.turns[number].reward + reward)

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
    opponents: Mapping[str, Opponent] = field(default_factory=dict)  # by the agent for which they speak
    begin: MiddleState | None = None  # where episodes begin; None: where the environment does
    max_turns: int | None = None  # of the episodes that begin there; None: rollout.max_turns
    snapshots: bool = False  # turns keep the state of the environment behind them
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
        except LlmrlError as error:
            if type(error) is DataError and not str(error).startswith("problem "):
                raise DataError(f"problem {problem.id}: {error}") from error
            raise
        except Exception as error:  # of the environment, and a bad episode is data
            status, reason = "error", f"{type(error).__name__}: {error}"
        return played.trajectory(problem, status, reason, group, episode)

    async def _talk(
        self, env: OpenEnv, problem: Problem, played: OpenEpisode, sampling: TurnSampling, prefix: list[int]
    ) -> Status:
        """Play turns until the environment or a limit ends the episode; return which."""
        seen = await self._opened(env, played)
        while True:
            side = played.sides.setdefault(seen.agent, Conversation())
            first = not played.turns and self.begin is None
            fed = self._prompt(problem, side, seen) if first else self._heard(side, seen)
            prompt = array("i", fed + prefix)
            if played.turns and len(prompt) >= self._room:
                return "max_tokens"
            turn = await self._spoken(seen.agent, prompt, sampling(len(played.turns)), prefix, images_of(side.past))
            answer: Message = {"role": "assistant", "content": turn.text}
            read = self._with_calls(answer, [*prefix, *turn.completion.token_ids]) if side.tools else answer
            prefix = []
            side.say(answer, [*prompt, *turn.completion.token_ids])
            played.turns.append(turn)
            seen = await env.step(read)
            played.answer(seen)
            if seen.done:
                return "cut" if seen.cut else "done"
            if self.snapshots:
                played.turns[-1] = replace(played.turns[-1], snapshot=await env.snapshot())
            ends = self.options.overlong_turns == "end" and turn.trains
            if turn.completion.finish == "length" and ends:
                return "max_tokens"
            if len(played.turns) == (self.max_turns or self.options.max_turns):
                return "max_turns"

    async def _opened(self, env: OpenEnv, played: OpenEpisode) -> Observation:
        """The first observation: at the environment's beginning, or at the state in which episodes begin."""
        state = self.begin
        if state is None:
            played.first = await env.reset()
            return played.first
        seen = await env.restore(state.snapshot)
        if list(seen.messages) != list(state.reply):
            raise ValueError("the environment does not go on from its snapshot as before: it showed another text")
        played.first = Observation(messages=state.messages, tools=state.tools)
        played.sides[""] = Conversation(list(state.messages), state.prompt_ids, state.tools, waits=True)
        return seen

    async def _spoken(
        self, agent: str, prompt: array[int], wanted: Sampling, prefix: list[int], images: tuple[str, ...]
    ) -> Turn:
        """A turn of an agent, by the policy or by the opponent that has its place."""
        opponent = self.opponents.get(agent)
        if prefix:
            wanted = replace(wanted, max_tokens=wanted.max_tokens - len(prefix))
        if opponent is not None and opponent.temperature is not None:
            wanted = replace(wanted, temperature=opponent.temperature)
        with _border(EngineError, "the engine, which was asked for a turn"):
            engine = self.engine if opponent is None else opponent.engine
            completion = await (
                seeing(engine).generate(prompt, wanted, images) if images else engine.generate(prompt, wanted)
            )
        return Turn(
            prompt_ids=prompt,
            completion=completion,
            text=self.chat.text([*prefix, *completion.token_ids]),
            opened=self.chat.opened(prompt[: len(prompt) - len(prefix)]),
            agent=agent,
            model=POLICY if opponent is None else opponent.model,
            images=images,
        )

    def _heard(self, side: Conversation, seen: Observation) -> list[int]:
        """The prompt behind what an agent is shown: its first, one that extends its last, or a whole other one."""
        if side.waits:  # at a state whose prompt is known, token by token
            side.waits = False
            return list(side.ids)
        side.tools = seen.tools or side.tools
        with _border(DataError, "the chat template and the tokenizer, which made a prompt of these messages"):
            if seen.whole or not side.spoke:
                prompt = self.chat.prompt_ids(seen.messages, side.tools, pictures=True)
            else:
                prompt = self.chat.next_prompt(side.ids, side.past, seen.messages, side.tools, pictures=True)
        side.past = list(seen.messages) if seen.whole else [*side.past, *seen.messages]
        return prompt

    def _with_calls(self, answer: Message, token_ids: Sequence[int]) -> Message:
        """The answer as an environment with tools reads it: with `tool_calls`, or why none can be read."""
        read = parsed(self.chat, token_ids)
        if read.error:
            return {**answer, "tool_error": read.error}
        return read.message() if read.calls else answer

    @property
    def _room(self) -> int:
        return min(self.options.max_length, self.max_model_len or self.options.max_length)

    def _prompt(self, problem: Problem, side: Conversation, seen: Observation) -> list[int]:
        """The first prompt of an episode, which is of the data: no longer than allowed."""
        prompt = self._heard(side, seen)
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
