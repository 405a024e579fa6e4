"""Answer requests by the engine: prompts that go on from recorded tokens, and a record before every answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmrl.chat import Chat, joined
from llmrl.errors import DataError, LlmrlError
from llmrl.gateway.conversation import chain, messages_of
from llmrl.gateway.replies import call_ids
from llmrl.gateway.requests import Wanted
from llmrl.gateway.session import Call, Session
from llmrl.protocols import Engine
from llmrl.tool_calls.completions import parsed, spelled
from llmrl.tool_calls.forms import Parsed
from llmrl.types import Message


class LimitError(LlmrlError, ValueError):
    """A session has reached a limit of its episode, of calls or tokens: a status and code that no client retries."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass(frozen=True, slots=True)
class _Prompt:
    """Tokens to feed, the conversation that they spell, and the call that they go on from."""

    ids: Sequence[int]
    fed: Sequence[Message]
    before: Call | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecorder:
    """Answers the calls of sessions by an engine, token-exact.

    A request whose messages begin with those of an earlier call and its answer goes on from that call's tokens: what
    was sampled is never encoded again. Every other history begins anew, with the template's rendering.
    """

    engine: Engine
    chat: Chat

    async def chat_call(self, session: Session, wanted: Wanted) -> tuple[Call, Parsed]:
        """Answer a chat completion, or a response.

        Raises:
            LimitError: the episode has no room for it.
            LlmrlError: the template refuses the messages, or the engine fails.
        """
        keys = chain(wanted.tools, wanted.messages)
        prompt = self._prompt(session, keys, wanted)
        call = self._opened(session, prompt, messages=wanted.messages, dialect=wanted.dialect, tools=wanted.tools)
        await self._generate(session, call, wanted)
        answer = self._parsed(call, wanted)
        session.known[chain(wanted.tools, [*wanted.messages, _as_sent(answer, call)])[-1]] = call
        return call, answer

    async def text_call(self, session: Session, wanted: Wanted) -> tuple[Call, Parsed]:
        """Answer a completion; a text that begins with an earlier one and its answer goes on from its tokens.

        Raises:
            LimitError, LlmrlError: as `chat_call`.
        """
        if not isinstance(wanted.prompt, str) and max(wanted.prompt) >= len(self.chat.tokenizer):
            raise DataError(f"prompt: token {max(wanted.prompt)}; expected ids below {len(self.chat.tokenizer)}")
        prompt_text = wanted.prompt if isinstance(wanted.prompt, str) else spelled(self.chat, wanted.prompt)
        message = {"role": "user", "content": prompt_text}
        prompt = self._continued(session, wanted)
        call = self._opened(session, prompt, messages=[message], dialect="completions")
        await self._generate(session, call, wanted)
        return call, self._parsed(call, wanted)

    def _prompt(self, session: Session, keys: Sequence[bytes], wanted: Wanted) -> _Prompt:
        """The prompt of a chat: behind the longest history that the session knows, or the template's own."""
        messages, tools = wanted.messages, wanted.tools
        for end in range(len(messages) - 1, 0, -1):
            known = session.known.get(keys[end])
            if known is None or known.completion is None:
                continue
            past = [*known.fed, {"role": "assistant", "content": known.text}]
            previous, reply = [*known.prompt_ids, *known.completion.token_ids], messages[end:]
            try:
                ids = self.chat.next_prompt(previous, past, reply, tools)
            except DataError:  # a template that takes results of tools behind calls alone
                break
            known.reply = known.reply or reply
            return _Prompt(ids, [*past, *reply], known if ids[: len(previous)] == previous else None)
        ids = self.chat.prompt_ids(messages, tools)
        return _Prompt(ids, messages, _extended(session, ids))

    def _continued(self, session: Session, wanted: Wanted) -> _Prompt:
        """The prompt of a completion, behind the longest text that the session knows."""
        if not isinstance(wanted.prompt, str):
            return _Prompt(wanted.prompt, (), _extended(session, wanted.prompt))
        known = [call for call in session.answered if call.dialect == "completions"]
        texts = {call.seq: call.messages[0]["content"] + call.text for call in known}
        fitting = [call for call in known if call.text and wanted.prompt.startswith(texts[call.seq])]
        before = max(fitting, key=lambda call: len(texts[call.seq]), default=None)
        if before is None or before.completion is None:
            return _Prompt(self._encoded(wanted.prompt), ())
        added = self._encoded(wanted.prompt[len(texts[before.seq]) :])
        return _Prompt(joined([*before.prompt_ids, *before.completion.token_ids], added), (), before)

    def _opened(self, session: Session, prompt: _Prompt, **facts: Any) -> Call:
        """Begin the record, where the episode has room for the call."""
        begun = sum(call.status != "aborted" for call in session.calls)
        if begun >= session.max_calls:
            session.limit = "max_turns"
            raise LimitError(
                f"the episode has made all its {session.max_calls} calls (rollout.max_turns)", "max_turns", 403
            )
        if len(prompt.ids) >= session.max_tokens:
            session.limit = "max_tokens"
            raise LimitError(
                f"a prompt of {len(prompt.ids)} tokens leaves no room for an answer: the episode has room for "
                f"{session.max_tokens} (rollout.max_prompt_length, max_turns times max_completion_length, replies)",
                "context_length_exceeded",
                400,
            )
        parent = None if prompt.before is None else prompt.before.seq
        drift = parent is None and begun > 0
        return session.open_call(prompt_ids=prompt.ids, fed=prompt.fed, parent=parent, drift=drift, **facts)

    async def _generate(self, session: Session, call: Call, wanted: Wanted) -> None:
        """Sample, as training does, and complete the record."""
        sampling = session.sampling(call.seq)
        most = min(sampling.max_tokens, wanted.max_tokens or sampling.max_tokens)
        most = min(most, session.max_tokens - len(call.prompt_ids))
        task = asyncio.ensure_future(
            self.engine.generate(call.prompt_ids, replace(sampling, max_tokens=most, stop=wanted.stop))
        )
        session.running.add(task)
        begun = time.monotonic()
        try:
            call.completion = await task
        except BaseException as error:
            call.status = "aborted"
            if session.ended is not None:  # which has cancelled the task
                raise DataError(f"the session has ended: {session.ended}") from None
            if isinstance(error, Exception):
                session.failure = error
            raise
        finally:
            session.running.discard(task)
            call.seconds = time.monotonic() - begun
        call.text = self.chat.text(call.completion.token_ids)
        call.opened = self.chat.opened(call.prompt_ids)
        call.status = "answered"

    def _parsed(self, call: Call, wanted: Wanted) -> Parsed:
        """The answer as the agent reads it: without a stop string, its tool calls read where it has tools."""
        assert call.completion is not None
        text, stop = call.text, call.completion.stopped_by
        if stop is not None:
            text = text[: text.rfind(stop)] if stop in text else text
        read = parsed(self.chat, call.completion.token_ids) if wanted.tools else Parsed(text)
        return read if read.calls else Parsed(text)

    def _encoded(self, text: str) -> list[int]:
        """Ids of a text of a completion, whose special tokens are meant."""
        return list(self.chat.tokenizer(text, add_special_tokens=False)["input_ids"])


def _extended(session: Session, ids: Sequence[int]) -> Call | None:
    """The call whose prompt and completion are the longest beginning of these tokens."""
    ids, fitting = list(ids), []
    for call in session.answered:
        assert call.completion is not None
        before = [*call.prompt_ids, *call.completion.token_ids]
        if ids[: len(before)] == before:
            fitting.append((len(before), call.seq, call))
    return max(fitting)[2] if fitting else None


def _as_sent(answer: Parsed, call: Call) -> Message:
    """The answer as the agent will send it back, in the form of `messages_of`."""
    return messages_of([answer.message(call_ids(call, answer))])[0]
