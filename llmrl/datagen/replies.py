"""Replies of a model to prompts of a user, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmrl.chat import Chat
from llmrl.clients.retry import together
from llmrl.protocols import Engine
from llmrl.types import Sampling


async def replies(prompts: Sequence[str], engine: Engine, chat: Chat, sampling: Sampling) -> list[str]:
    """Generate a reply to each prompt; their seeds count up from that of `sampling`, so that equal prompts differ."""
    first = sampling.seed or 0

    async def reply(number: int, prompt: str) -> str:
        ids = chat.prompt_ids([{"role": "user", "content": prompt}])
        completion = await engine.generate(ids, replace(sampling, seed=first + number))
        return chat.text(completion.token_ids)

    return list(await together(reply(number, prompt) for number, prompt in enumerate(prompts)))
