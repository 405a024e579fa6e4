"""Generate answers on a running server with OpenAI's chat completions: vLLM, llmrl serve, or any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from llmrl.clients.addresses import require_url
from llmrl.clients.bearer import header
from llmrl.clients.retry import LONGEST_PAUSE_S, advice, retry_after
from llmrl.errors import EngineError
from llmrl.evaluation.chat_reply import ChatReply, read_reply
from llmrl.evaluation.generators import Played, refused
from llmrl.types import Completion, Problem, Sampling, Trajectory, Turn

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
REFUSALS = 5  # bad requests in a row before any answer: then it is not the problem's fault


@dataclass
class RemoteGenerator:
    """Asks `url/chat/completions`. The server's own chat template applies; token ids are not known here.

    Use as an async context manager.
    """

    url: str  # up to and with /v1
    model: str = ""  # "": the only one that the server has
    api_key: str | None = None
    system_prompt: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 600.0  # of one answer
    attempts: int = 5  # of one request, with pauses of 1, 2, 4, 8 s between them
    pause_s: float = 1.0
    concurrency: int = 32
    answered: int = field(default=0, init=False)
    refusals: int = field(default=0, init=False)

    async def __aenter__(self) -> RemoteGenerator:
        """Find the served model.

        Raises:
            EngineError: no server answers, or `model` is not served, or several are and none was chosen.
        """
        import httpx

        try:
            require_url(self.url)
        except ValueError as error:
            raise EngineError(str(error)) from None
        limits = httpx.Limits(max_connections=self.concurrency)
        self._client = httpx.AsyncClient(
            headers=header(self.api_key), timeout=httpx.Timeout(self.timeout_s, connect=10), limits=limits
        )
        self.url = self.url.rstrip("/")
        try:
            served = await self._ask("GET", "models", None, _models, attempts=1)
        except BaseException:
            await self._client.aclose()
            raise
        if (self.model and self.model not in served) or (not self.model and len(served) != 1):
            await self._client.aclose()
            wanted = f"{self.model!r} is not served" if self.model else "several models are served; choose one"
            raise EngineError(f"{self.url}: {wanted}; found {', '.join(served) or 'none'}")
        self.model = self.model or served[0]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.aclose()

    @property
    def settings(self) -> Mapping[str, Any]:
        """Source of the answers: server, model and prompt settings."""
        return {
            "url": self.url,
            "model": self.model,
            "system_prompt": self.system_prompt,
            "chat_template_kwargs": dict(self.chat_template_kwargs),
        }

    async def generate(self, problem: Problem, sampling: Sampling) -> Played:
        """Generate an answer; one that the server refuses, filters or keeps to itself is an episode of status `error`.

        Raises:
            EngineError: the server does not answer, refuses every request, or sends nonsense again and again.
        """
        reply = await self._ask("POST", "chat/completions", self._body(problem, sampling), read_reply)
        if isinstance(reply, str) or reply.fault:
            self.refusals += 1
            reason = reply if isinstance(reply, str) else reply.fault
            if not self.answered and self.refusals >= REFUSALS:
                raise EngineError(f"{self.url}: the first {REFUSALS} requests were refused; the last: {reason}")
            return refused(problem, reason)
        self.answered += 1
        return _played(problem, reply)

    def _body(self, problem: Problem, sampling: Sampling) -> dict[str, Any]:
        messages = [dict(message) for message in problem.messages]
        if self.system_prompt is not None and messages[0].get("role") != "system":
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }
        extras = {  # vLLM's; other servers refuse unknown options, so only those that differ from the default are sent
            "top_k": sampling.top_k if sampling.top_k > 0 else None,
            "min_p": sampling.min_p if sampling.min_p > 0 else None,
            "stop": list(sampling.stop) or None,
            "include_stop_str_in_output": bool(sampling.stop) or None,
            "chat_template_kwargs": dict(self.chat_template_kwargs) or None,
        }
        return body | {key: value for key, value in extras.items() if value is not None}

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        read: Callable[[httpx.Response], T],
        attempts: int | None = None,
    ) -> T | str:
        """Send a request, and read its reply; the reason where the server refuses this request alone.

        What may pass is tried again, after the pause that the server asks for: no connection, a busy or broken server,
        a reply at which `read` raises a ValueError.
        """
        import httpx

        reason, pause, running = "", 0.0, False
        attempts = attempts or self.attempts
        for attempt in range(attempts):
            await asyncio.sleep(pause)
            pause = self.pause_s * 2**attempt
            try:
                response = await self._client.request(method, f"{self.url}/{path}", json=body)
                if response.status_code == 200:
                    return read(response)
            except (httpx.HTTPError, ValueError) as error:
                running = not isinstance(error, httpx.HTTPError)
                reason = str(error) if running else f"{type(error).__name__} {error}"
                continue
            reason = f"HTTP {response.status_code}: {response.text[:300]}"
            if body is not None and response.status_code in (400, 413, 422):
                return reason
            if response.status_code not in (408, 429) and response.status_code < 500:
                raise EngineError(f"{self.url}/{path}: {reason}; {advice(response.status_code, self.url)}")
            pause = max(pause, min(LONGEST_PAUSE_S, retry_after(response)))
        raise EngineError(
            f"{self.url}/{path}: no {'usable ' if running else ''}answer after {attempts} attempt(s) ({reason.strip()})"
            + ("" if running else "; is the server running?")
        )


def _models(reply: httpx.Response) -> list[str]:
    try:
        return [str(entry["id"]) for entry in reply.json()["data"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not an OpenAI server's answer ({error!r}); is /v1 missing?") from None


def _played(problem: Problem, reply: ChatReply) -> Played:
    completion = Completion(token_ids=[], logprobs=[], finish=reply.finish, version=0)
    turn = Turn(prompt_ids=[], completion=completion, text=reply.text, opened=reply.opened)
    return Played(Trajectory(problem=problem, turns=[turn], status="done"), reply.tokens)
