"""A language model behind OpenAI's chat completions, as rewards ask it: bounded, cached, counted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from llmrl.clients import retry
from llmrl.clients.addresses import require_url
from llmrl.clients.cache import Cache, key_of
from llmrl.errors import RewardError
from llmrl.recipe.ranges import Amount, Seconds

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
Schema = Mapping[str, Any]
UNSTRUCTURED = (400, 422)  # how servers refuse a `response_format` that they do not know


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """Options of a chat model: the server, the model, the bounds of its use."""

    url: str = "http://127.0.0.1:8000/v1"  # up to and with /v1
    model: str = ""  # as the server calls it; pin one, since two judges cannot be compared. "": its only one
    api_key_variable: str = "OPENAI_API_KEY"  # the environment variable that holds the key, if there is one
    temperature: Amount = 0.0
    max_tokens: int = 512  # of a reply
    timeout_s: Seconds = 60.0  # of one try
    retries: int = 2  # after the first try
    pause_s: float = 1.0  # before the first retry; doubles. A longer Retry-After of the server is honoured
    patience_s: float = 600.0  # of a request, all its tries and pauses together
    concurrency: int = 16  # requests at a time, of this process
    requests_per_minute: float | None = None  # of this process; None: no limit
    cache: str | None = None  # a folder that keeps the replies that could be used; processes may share it
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of each request; null removes an entry

    def __post_init__(self) -> None:
        self.bounds()
        if self.concurrency < 1 or self.max_tokens < 1:
            raise ValueError("expected concurrency and max_tokens at least 1")
        if self.requests_per_minute is not None and not self.requests_per_minute > 0:
            raise ValueError(f"requests_per_minute {self.requests_per_minute}: expected above 0")
        require_url(self.url)

    def bounds(self) -> retry.Bounds:
        """Bounds of a single request."""
        return retry.Bounds(
            timeout_s=self.timeout_s, retries=self.retries, pause_s=self.pause_s, patience_s=self.patience_s
        )


@dataclass(frozen=True, kw_only=True)
class PricedChatOptions(ChatOptions):
    """Options of a judge, whose scores tell what it cost."""

    prompt_price: Amount | None = None  # of a million tokens, in any currency
    completion_price: Amount | None = None


@dataclass(frozen=True)
class Usage:
    """Costs of replies. Tokens are None where the server gave no numbers."""

    requests: int = 0  # replies that cost money, unusable ones included
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    cached: int = 0  # replies from the cache, which cost nothing
    corrupt: int = 0  # entries of the cache that were broken

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            _sum(self.prompt_tokens, other.prompt_tokens),
            _sum(self.completion_tokens, other.completion_tokens),
            self.cached + other.cached,
            self.corrupt + other.corrupt,
        )

    def parts(self, options: PricedChatOptions, share: float = 1.0) -> dict[str, float | None]:
        """Entries for the log: the usage or a share of it, and its `cost` where a price is set."""
        counts = {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached": self.cached,
            "corrupt_entries": self.corrupt,
        }
        parts = {name: None if count is None else share * count for name, count in counts.items()}
        if options.prompt_price is not None or options.completion_price is not None:
            prices = (options.prompt_price or 0.0, options.completion_price or 0.0)
            tokens = (parts["prompt_tokens"], parts["completion_tokens"])
            known = [price * count / 1e6 for price, count in zip(prices, tokens, strict=True) if count is not None]
            parts["cost"] = sum(known) if len(known) == 2 else None
        return parts


@dataclass(frozen=True)
class Reply(Generic[T]):
    """A reply as read; `value` None: there was no usable one, and `failure` gives the reason."""

    value: T | None
    usage: Usage
    failure: str = ""


@dataclass
class ChatClient:
    """Client of one reward. It counts requests in flight and per minute over all groups."""

    name: str  # of the reward, for messages
    options: ChatOptions
    model: str = field(init=False)
    cache: Cache | None = field(init=False)
    structures: bool | None = field(default=None, init=False)  # whether the server knows `response_format`
    gates: retry.Gates = field(init=False)

    def __post_init__(self) -> None:
        self.model = self.options.model
        self.gates = retry.Gates(self.options.concurrency, self.options.requests_per_minute)
        self.cache = Cache(Path(self.options.cache)) if self.options.cache else None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Open connections for one group, and find its model.

        Raises:
            RewardError: no model was chosen, and the server has several, is no OpenAI server or refuses everybody.
        """
        key = os.environ.get(self.options.api_key_variable)
        async with retry.client(self.options.url, key, self.options.concurrency) as client:
            connection = Connection(self, client, self.gates.here())
            if not self.model:
                await connection.choose_model()
            yield connection


@dataclass
class Connection:
    """Sends requests of one group."""

    chat: ChatClient
    client: httpx.AsyncClient
    gate: retry.RateLimit

    failure: str = ""  # why no model is known

    async def choose_model(self) -> None:
        """Fill in the only model that is served; where no server answers, no question is sent later either."""
        place = f"reward {self.chat.name}: {self.chat.options.url}"
        try:
            names = await self._tried("GET", "models", None, _models)
        except retry.UnansweredError as error:
            if error.status == 200:
                raise RewardError(f"{place}: {error}; is /v1 missing?") from None
            self.failure = str(error)
            return
        if len(names) != 1:
            raise RewardError(f"{place} serves {names}; choose one as `model`")
        self.chat.model = names[0]

    async def ask(
        self, messages: Sequence[Mapping[str, Any]], read: Callable[[str], T], schema: Schema | None = None
    ) -> Reply[T]:
        """Ask the model, or the cache, and read the reply; where `read` raises a ValueError, ask again.

        Args:
            schema: of the reply, a JSON object; a server that does not support schemas is asked without.
        Raises:
            RewardError: the server refuses everybody, as for a wrong key or an unknown model.
        """
        if self.failure:
            return Reply(None, Usage(), self.failure)
        body = self._body(messages, schema)
        key, usage = key_of(body), Usage()
        if self.chat.cache is not None:
            before = self.chat.cache.corrupt
            kept = self.chat.cache.get(key)
            try:
                if kept is not None:
                    return Reply(read(kept), Usage(cached=1))
            except ValueError:
                self.chat.cache.corrupt += 1
            usage = Usage(corrupt=self.chat.cache.corrupt - before)
        return await self._asked(body, key, read, usage)

    async def _asked(self, body: dict[str, Any], key: str, read: Callable[[str], T], usage: Usage) -> Reply[T]:
        def used(reply: httpx.Response) -> T:
            nonlocal usage
            text, finish, paid = _completion(reply)
            usage += paid
            try:
                value = read(text)
            except ValueError as error:
                cut = f", cut off at max_tokens {self.chat.options.max_tokens}" if finish == "length" else ""
                raise ValueError(f"{error}{cut}; the judge said {text[:120]!r}") from None
            if self.chat.cache is not None:
                self.chat.cache.put(key, text, {"model": body["model"], "finish": finish})
            return value

        try:
            value = await self._posted(body, used)
            return Reply(value, usage)
        except retry.UnansweredError as error:
            return Reply(None, usage, str(error))

    async def _posted(self, body: dict[str, Any], read: Callable[[httpx.Response], T]) -> T:
        """Post a request with its schema; a server that refuses the first one with a schema is asked without."""
        structured = "response_format" in body and self.chat.structures is not False
        bare = {name: option for name, option in body.items() if name != "response_format"}
        try:
            value = await self._tried("POST", "chat/completions", body if structured else bare, read)
            self.chat.structures = True if structured else self.chat.structures
        except retry.UnansweredError as error:
            if not structured or self.chat.structures or error.status not in UNSTRUCTURED:
                raise
            value = await self._tried("POST", "chat/completions", bare, read)
            self.chat.structures = False
        return value

    def _body(self, messages: Sequence[Mapping[str, Any]], schema: Schema | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.chat.model,
            "messages": [dict(message) for message in messages],
            "temperature": self.chat.options.temperature,
            "max_tokens": self.chat.options.max_tokens,
        }
        if schema is not None:
            named = {"name": "reply", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        body |= self.chat.options.extra_body
        return {name: option for name, option in body.items() if option is not None}

    async def _tried(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[httpx.Response], T]
    ) -> T:
        url = f"{self.chat.options.url.rstrip('/')}/{path}"
        try:
            return await retry.tried(
                lambda: self.client.request(method, url, json=body), read, self.chat.options.bounds(), self.gate
            )
        except retry.UnansweredError as error:
            failure = f"{url}: {error}"
            if error.status in retry.REFUSALS:
                key = self.chat.options.api_key_variable
                raise RewardError(f"reward {self.chat.name}: {failure}; check url, model and ${key}") from None
            raise retry.UnansweredError(failure, error.status) from None


def _models(reply: httpx.Response) -> list[str]:
    try:
        return [str(entry["id"]) for entry in reply.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not an OpenAI server's list of models ({error!r})") from None


def _completion(reply: httpx.Response) -> tuple[str, str, Usage]:
    """Read a completion's text, its finish reason and its usage."""
    try:
        body = reply.json()
        choice = body["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError(f"content is {type(text).__name__}")
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"not a chat completion ({error!r}): {reply.text[:120]!r}") from None
    usage = body.get("usage")
    spent = usage if isinstance(usage, Mapping) else {}
    tokens = [spent.get(name) for name in ("prompt_tokens", "completion_tokens")]
    read, written = (n if isinstance(n, int) and not isinstance(n, bool) else None for n in tokens)
    return text, str(choice.get("finish_reason")), Usage(1, read, written)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
