"""A user played by a language model behind an OpenAI-compatible server: a hosted one, or `llmrl serve` and vLLM."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from llmrl.clients.chat_completions import ChatClient, ChatOptions
from llmrl.dialogue.simulator import UserReply
from llmrl.errors import DataError
from llmrl.recipe.ranges import Amount
from llmrl.types import Message, Problem

T = TypeVar("T")
END = "[END]"
PLAY = (
    "You play a person who talks with an assistant. {persona}\n\nWhat it is about:\n{task}\n\nWrite nothing but the "
    "person's next line. Write {end} behind it once the person has nothing more to say."
)
RATE = (
    "You are a person who has talked with an assistant. {persona}\n\nWhat it was about:\n{task}\n\nThe conversation:\n"
    "{conversation}\n\nHow content are you with the assistant? Reply with a whole number from 0 (not at all) to 10."
)
NUMBER = re.compile(r"\b(10|[0-9])\b")


@dataclass(frozen=True, kw_only=True)
class ChatModel(ChatOptions):
    """Options of the simulator `chat_model`: a server, a model, and who is played."""

    persona: str = ""  # in words: "You are impatient, and know little about computers."
    task_column: str | None = None  # of `info`: what the person wants; None: the problem's messages of the user
    temperature: Amount = 0.7

    async def reply(self, problem: Problem, conversation: Sequence[Message]) -> UserReply:
        """Ask for the next line.

        Raises:
            ConnectionError: the server gives no usable reply, which costs the episode.
            RewardError: it refuses everybody, as for a wrong key.
        """
        told = PLAY.format(persona=self.persona, task=_task(problem, self.task_column), end=END)
        asked = [{"role": "system", "content": told}, *_turned(conversation)]
        line = await self._asked(asked, _line)
        return UserReply(line.replace(END, "").strip(), ends=END in line)

    async def rate(self, problem: Problem, conversation: Sequence[Message]) -> float:
        """Ask for a number from 0 to 10.

        Raises:
            ConnectionError, RewardError: as `reply`.
        """
        names = {"user": "person", "assistant": "assistant"}
        spoken = "\n".join(f"{names[message['role']]}: {message['content']}" for message in conversation)
        told = RATE.format(persona=self.persona, task=_task(problem, self.task_column), conversation=spoken)
        return await self._asked([{"role": "user", "content": told}], _grade) / 10

    async def _asked(self, messages: Sequence[Mapping[str, str]], read: Callable[[str], T]) -> T:
        async with _client(self).connected() as connection:
            reply = await connection.ask(messages, read)
        if reply.value is None:
            raise ConnectionError(f"simulator chat_model: {reply.failure}")
        return reply.value


@cache
def _client(options: ChatModel) -> ChatClient:
    """The client of all conversations with these options, which counts their requests together."""
    return ChatClient("simulator chat_model", options)


def _turned(conversation: Sequence[Message]) -> list[dict[str, str]]:
    """The conversation as the person sees it, for whom the model speaks; it begins where there is none."""
    begun = [{"role": "user", "content": "(The person speaks first.)"}]
    other = {"user": "assistant", "assistant": "user"}
    spoken = [{"role": other[message["role"]], "content": str(message["content"])} for message in conversation]
    return begun + spoken


def _task(problem: Problem, column: str | None) -> str:
    if column is not None:
        if column not in problem.info:
            raise DataError(f"problem {problem.id}: its info has no {column!r}, which task_column of chat_model names")
        return str(problem.info[column])
    return "\n".join(str(message["content"]) for message in problem.messages if message["role"] == "user")


def _line(text: str) -> str:
    if not text.strip():
        raise ValueError("an empty line")
    return text


def _grade(text: str) -> float:
    numbers = NUMBER.findall(text)
    if len(numbers) != 1:
        raise ValueError(f"{len(numbers)} numbers from 0 to 10; expected one")
    return float(numbers[0])


plugin = ChatModel
