"""A session: the calls of one agent program in one episode, with their tokens, and the turns that they make."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llmrl.types import Completion, Message, Sampling, Status, Turn, Verdict

Dialect = Literal["chat", "completions", "responses"]
CallStatus = Literal["waiting", "answered", "aborted"]


@dataclass(slots=True, kw_only=True)
class Call:
    """Record of a request: what was fed, what was sampled. It is complete before the agent reads the answer."""

    id: str
    seq: int  # in the order of arrival, from 0
    dialect: Dialect
    messages: Sequence[Message]  # as the agent sent them; of a completion, the prompt as a message of the user
    prompt_ids: Sequence[int]
    fed: Sequence[Message] = ()  # the conversation before the reply, with recorded completions as they were sampled
    tools: Sequence[Mapping[str, Any]] = ()
    parent: int | None = None  # seq of the call whose prompt and completion the prompt begins with
    drift: bool = False  # the session had a history, and the prompt goes on from none of it
    completion: Completion | None = None
    text: str = ""  # the completion decoded, without special tokens
    opened: str = ""  # what the prompt began of the answer: see `Turn.opened`
    status: CallStatus = "waiting"
    reply: Sequence[Message] = ()  # what a later call has put behind the completion
    reward: float = 0.0
    seconds: float = 0.0
    created: float = field(default_factory=time.time)

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON has it."""
        completion = self.completion
        sampled = (
            {}
            if completion is None
            else {
                "completion_ids": list(completion.token_ids),
                "logprobs": list(completion.logprobs),
                "finish_reason": completion.finish,
                "version": completion.version,
            }
        )
        facts = {name: getattr(self, name) for name in ("id", "seq", "dialect", "parent", "drift", "status", "reward")}
        said = {"messages": list(self.messages), "prompt_ids": list(self.prompt_ids), "text": self.text}
        return facts | said | sampled | {"latency_ms": round(1000 * self.seconds, 3)}


@dataclass(slots=True, kw_only=True)
class Session:
    """Calls of an agent, its reward, and how it ended. Answered calls are turns, in the order in which they came."""

    id: str  # random; whoever knows it may use the session
    sampling: Callable[[int], Sampling]  # of a call, by its number
    max_calls: int
    max_tokens: int  # of a prompt with its completion
    metadata: Mapping[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    reward: float = 0.0  # given for the episode as a whole
    rewarded: bool = False
    verdict: Verdict | None = None
    ended: str | None = None  # by whom or why; an ended session answers no call
    limit: Status | None = None  # that refused a call: max_turns or max_tokens
    failure: BaseException | None = None  # of the engine, which is no fault of the agent
    known: dict[bytes, Call] = field(default_factory=dict)  # by the fingerprint of a conversation and its answer
    running: set[asyncio.Task[Any]] = field(default_factory=set)
    started: float = field(default_factory=time.monotonic)

    def open_call(self, dialect: Dialect, messages: Sequence[Message], prompt_ids: Sequence[int], **facts: Any) -> Call:
        """Begin a record."""
        seq = len(self.calls)
        call = Call(
            id=f"call-{seq}", seq=seq, dialect=dialect, messages=messages, prompt_ids=array("i", prompt_ids), **facts
        )
        self.calls.append(call)
        return call

    def end(self, why: str) -> None:
        """End the session: calls that nobody waits for any more are cut off, and make no turn. Safe to call twice."""
        self.ended = self.ended or why
        for task in tuple(self.running):
            task.cancel()

    @property
    def answered(self) -> list[Call]:
        """Calls whose answer the agent was given."""
        return [call for call in self.calls if call.status == "answered" and call.completion is not None]

    def turns(self) -> list[Turn]:
        """Turns of the episode. The reward of the whole episode belongs to the last."""
        return [
            Turn(
                prompt_ids=call.prompt_ids,
                completion=call.completion,  # type: ignore[arg-type] # an answered call has one
                text=call.text,
                opened=call.opened,
                reply=call.reply,
                reward=call.reward + (self.reward if last else 0.0),
            )
            for call, last in _with_last(self.answered)
        ]

    def metrics(self) -> dict[str, float]:
        """Numbers of the episode, for the log."""
        answered = self.answered
        return {
            "calls": float(len(answered)),
            "aborted_calls": float(sum(call.status == "aborted" for call in self.calls)),
            "drift": float(sum(call.drift for call in answered)),
        }

    def trace(self) -> dict[str, Any]:
        """Tell everything about the session, as JSON has it."""
        facts = {name: getattr(self, name) for name in ("reward", "verdict", "ended", "limit")}
        return (
            {"session_id": self.id, "metadata": dict(self.metadata)}
            | facts
            | {"calls": [call.as_dict() for call in self.calls]}
        )


def _with_last(calls: Sequence[Call]) -> list[tuple[Call, bool]]:
    return [(call, number == len(calls)) for number, call in enumerate(calls, 1)]
