"""Compare two answers by a principle with a language model: by the probabilities of `a` and `b`, not by its words."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llmrl.aio import wait
from llmrl.chat import Chat, load_stop_token_ids, load_tokenizer
from llmrl.clients.addresses import require_url
from llmrl.clients.bearer import header
from llmrl.errors import CheckpointError, DataError, EngineError
from llmrl.plugins import build
from llmrl.protocols import Engine
from llmrl.reward_models.principles import Principle
from llmrl.types import Problem

if TYPE_CHECKING:
    import httpx

FRAME = (
    "Two answers to the same request are compared by one criterion, and by nothing else.\n\n[Request]\n{request}\n\n"
    "[Answer (a)]\n{first}\n\n[Answer (b)]\n{second}\n\n[Criterion]\n{name}: {text}\n\n"
    "Which of the two meets the criterion better? Reply with its letter alone, a or b."
)
OPENING = "The better answer is ("  # the next token is the letter
PASSING = (408, 409, 425, 429)  # HTTP statuses that another try may cure, besides those from 500 on
TOP = 20  # log-probabilities a server is asked for; OpenAI's and vLLM's most


def question(problem: Problem, first: str, second: str, principle: Principle) -> str:
    """Write the prompt of the judge."""
    request = "\n".join(str(message.get("content", "")) for message in problem.messages)
    return FRAME.format(request=request, first=first, second=second, name=principle.name, text=principle.text)


class PairJudge(Protocol):
    """Judges how much (a) is preferred to (b)."""

    async def gap(self, question: str) -> float:
        """Log-probability of `a` minus that of `b`, in nats.

        Raises:
            DataError: this question cannot be judged.
            EngineError: no question can.
        """
        ...


async def both_orders(
    judge: PairJudge, problem: Problem, pair: Sequence[str], principle: Principle
) -> tuple[float, float]:
    """Preference for the first of the pair, in nats: when it is shown as (a), and when it is shown as (b)."""
    as_a, as_b = await asyncio.gather(
        judge.gap(question(problem, pair[0], pair[1], principle)),
        judge.gap(question(problem, pair[1], pair[0], principle)),
    )
    return as_a, 0.0 - as_b


@dataclass(frozen=True)
class EngineJudge:
    """Asks an engine for the probabilities of both letters where they stand: exact however text becomes tokens."""

    engine: Engine
    chat: Chat
    max_tokens: int = 1536  # of a question

    async def gap(self, question: str) -> float:
        head = self.chat.prompt_ids([{"role": "user", "content": question}])
        a, b = ([*head, *self.chat.answer_ids(OPENING + letter, head)] for letter in ("a", "b"))
        if max(len(a), len(b)) > self.max_tokens:
            raise DataError(f"a question of {max(len(a), len(b))} tokens; at most {self.max_tokens} are asked")
        shared = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
        scores = await asyncio.gather(self.engine.score(a), self.engine.score(b))
        return math.fsum(scores[0][shared - 1 :]) - math.fsum(scores[1][shared - 1 :])


@dataclass
class ServerJudge:
    """Asks any server with OpenAI's API for the likeliest next tokens, and reads those that spell the letters."""

    url: str  # up to and with /v1
    model: str
    api: Literal["chat", "completions"] = "chat"  # completions: plain text that ends in an open bracket
    timeout_s: float = 60.0  # of one try
    tries: int = 3
    pause_s: float = 1.0  # before the second try; doubles
    concurrency: int = 16
    client: Any = field(default=None, init=False)

    async def gap(self, question: str) -> float:
        body: dict[str, Any] = {"model": self.model, "max_tokens": 1, "temperature": 0.0}
        if self.api == "chat":
            body |= {"messages": [{"role": "user", "content": question}], "logprobs": True, "top_logprobs": TOP}
            reply = await self._ask("chat/completions", body)
        else:
            body |= {"prompt": f"{question}\n{OPENING}", "logprobs": TOP}
            reply = await self._ask("completions", body)
        letters = _letters(_likeliest(reply, self.api))
        missing = [letter for letter in "ab" if letter not in letters]
        if missing:
            raise DataError(f"{' and '.join(missing)} not among the {TOP} likeliest tokens of the reply")
        return letters["a"] - letters["b"]

    async def close(self) -> None:
        """End its connections; safe to call twice."""
        if self.client is not None:
            await self.client.aclose()
            self.client = None

    async def _ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post a request and return the JSON of the reply.

        Raises:
            DataError: the server refuses this request.
            EngineError: it does not answer, or refuses every request.
        """
        import httpx

        reason = ""
        for attempt in range(self.tries):
            if attempt:
                await asyncio.sleep(self.pause_s * 2 ** (attempt - 1))
            try:
                reply: httpx.Response = await self._client().post(f"{self.url.rstrip('/')}/{path}", json=body)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__} {error}".rstrip()
                continue
            if reply.status_code == 200:
                return _json(reply)
            reason = f"HTTP {reply.status_code}: {reply.text[:200]}"
            if reply.status_code in (400, 413, 422):
                raise DataError(f"the judge refuses it: {reason}")
            if reply.status_code < 500 and reply.status_code not in PASSING:
                break
        raise EngineError(f"judge {self.url}/{path}: {reason}; is the server running, with this model and this key?")

    def _client(self) -> Any:
        import httpx

        if self.client is None:
            key = os.environ.get("OPENAI_API_KEY")
            self.client = httpx.AsyncClient(
                headers=header(key),
                timeout=httpx.Timeout(self.timeout_s, pool=None),  # hundreds may wait for a connection, and should
                limits=httpx.Limits(max_connections=self.concurrency),
            )
        return self.client


def _json(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        raise EngineError(f"judge: no JSON: {reply.text[:120]!r}; is /v1 missing from its address?") from None


def _likeliest(reply: Any, api: str) -> list[tuple[str, float]]:
    """Texts of the likeliest first tokens, with their log-probabilities.

    Raises:
        EngineError: there are none in the answer.
    """
    try:
        logprobs = reply["choices"][0]["logprobs"]
        if api == "chat":
            return [(str(one["token"]), float(one["logprob"])) for one in logprobs["content"][0]["top_logprobs"]]
        return [(str(token), float(value)) for token, value in logprobs["top_logprobs"][0].items()]
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        raise EngineError(
            f"judge: no log-probabilities in its answer ({str(reply)[:120]}); expected a server that gives top_logprobs"
        ) from None


def _letters(likeliest: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Sum the probability of each letter over all tokens that spell it: `a`, ` a`, `A`; logarithms."""
    found: dict[str, float] = {}
    for token, logprob in likeliest:
        letter = token.strip().lower()
        if letter in ("a", "b"):
            found[letter] = logprob if letter not in found else _sum(found[letter], logprob)
    return found


def _sum(first: float, second: float) -> float:
    """The logarithm of the sum of two probabilities, from their logarithms."""
    high, low = max(first, second), min(first, second)
    return high + math.log1p(math.exp(low - high))


@contextmanager
def open_judge(model: str, *, engine: str, api: str, max_tokens: int) -> Iterator[PairJudge]:
    """Open a judge, and close it in the end.

    Args:
        model: a folder or a hub name, for which an engine is started; or `http://host:port/v1#name` of a server.
    Raises:
        EngineError, CheckpointError: there is no such model, or the engine does not start.
    """
    if model.startswith(("http://", "https://")):
        url, _, name = model.partition("#")
        if not name:
            raise EngineError(f"judge {model}: which model? Expected {url}#name, with the name that the server uses")
        try:
            require_url(url, name="judge")
        except ValueError as error:
            raise EngineError(str(error)) from None
        judge = ServerJudge(url, name, "completions" if api == "completions" else "chat")
        try:
            yield judge
        finally:
            wait(judge.close())
        return
    chat = Chat(load_tokenizer(model))
    running: Engine = build("engine", engine, "engine").start(
        model,
        dtype=_dtype(model),
        seed=0,
        max_model_len=max_tokens + 1,
        stop_token_ids=load_stop_token_ids(model, chat),
    )
    try:
        yield EngineJudge(running, chat, max_tokens)
    finally:
        running.close()


def _dtype(model: str) -> str:
    """The dtype of the checkpoint."""
    from transformers import AutoConfig

    try:
        return str(getattr(AutoConfig.from_pretrained(model), "dtype", None) or "float32").removeprefix("torch.")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{model}: no model there: {str(error).splitlines()[0]}; expected config.json") from error
