"""A gateway on loopback before a scripted engine, and agents that are nothing but OpenAI's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import openai

from llmrl.chat import Chat
from llmrl.engines.scripted import Scripted, ScriptedEngine
from llmrl.gateway.server import Gateway
from llmrl.gateway.session import Session
from llmrl.gateway.sessions import GatewayLimits, Sessions
from llmrl.tiny import make_tokenizer
from llmrl.types import Sampling

T = TypeVar("T")
TOKENIZER = make_tokenizer()
CHAT = Chat(TOKENIZER)


def scripted(replies: Any, **options: Any) -> ScriptedEngine:
    """An engine whose completions are known; `calls` is its own log of prompts."""
    return ScriptedEngine(
        tokenizer=TOKENIZER, options=Scripted(replies=replies, **options), stop_token_ids=[TOKENIZER.eos_token_id]
    )


@dataclass
class Agent:
    """An open session, as a test and as its agent see it."""

    gateway: Gateway
    engine: Any
    session: Session
    client: openai.AsyncOpenAI
    http: httpx.AsyncClient

    async def say(self, messages: list[Any], **options: Any) -> Any:
        """Ask for a chat completion."""
        return await self.client.chat.completions.create(model="any", messages=messages, **options)

    def post(self, path: str, body: Any) -> Awaitable[httpx.Response]:
        """Post to a route of the session."""
        return self.http.post(path, json=body)


@asynccontextmanager
async def opened(engine: Any, chat: Chat = CHAT, **options: Any) -> AsyncIterator[Agent]:
    """Open a session of a gateway that runs; options are limits and the sampling."""
    sampling = options.pop("sampling", Sampling(max_tokens=200))
    gateway = Gateway(engine, chat, Sessions(sampling=sampling, limits=GatewayLimits(**options)))
    session = gateway.sessions.open()
    base = f"{await gateway.url()}/sessions/{session.id}"
    headers = {"Authorization": f"Bearer {session.id}"}
    try:
        async with (
            openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=session.id, max_retries=0) as client,
            httpx.AsyncClient(base_url=base, headers=headers, trust_env=False) as http,
        ):
            yield Agent(gateway, engine, session, client, http)
    finally:
        await gateway.stop()


def play(engine: Any, work: Callable[[Agent], Awaitable[T]], **options: Any) -> T:
    """Run an agent's work in a session; what it returns."""

    async def run() -> T:
        async with opened(engine, **options) as agent:
            return await work(agent)

    return asyncio.run(run())
