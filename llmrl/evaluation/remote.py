"""Generate answers on a running server with OpenAI's chat completions: vLLM, llmrl serve, or any other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmrl.clients.bearer import header
from llmrl.errors import EngineError
from llmrl.evaluation.generators import Played, refused
from llmrl.types import Completion, Finish, Problem, Sampling, Trajectory, Turn

if TYPE_CHECKING:
    import httpx

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

        limits = httpx.Limits(max_connections=self.concurrency)
        self._client = httpx.AsyncClient(
            headers=header(self.api_key), timeout=httpx.Timeout(self.timeout_s, connect=10), limits=limits
        )
        self.url = self.url.rstrip("/")
        try:
            served = [str(entry["id"]) for entry in (await self._ask("GET", "models", None, attempts=1)).json()["data"]]
        except (ValueError, KeyError, TypeError) as error:
            await self._client.aclose()
            raise EngineError(
                f"{self.url}/models: not an OpenAI server's answer ({error!r}); is /v1 missing?"
            ) from error
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
        """Generate an answer; a request that the server rejects as bad is an episode of status `error`.

        Raises:
            EngineError: the server does not answer, refuses every request, or sends nonsense.
        """
        response = await self._ask("POST", "chat/completions", self._body(problem, sampling))
        if response.status_code != 200:
            self.refusals += 1
            reason = f"HTTP {response.status_code}: {response.text[:300]}"
            if not self.answered and self.refusals >= REFUSALS:
                raise EngineError(f"{self.url}: the first {REFUSALS} requests were refused; the last: {reason}")
            return refused(problem, reason)
        self.answered += 1
        try:
            answer = response.json()
            choice = answer["choices"][0]
            text, tokens = str(choice["message"]["content"] or ""), int(answer["usage"]["completion_tokens"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise EngineError(
                f"{self.url}: not a chat completion with usage ({error!r}): {response.text[:300]}"
            ) from error
        finish: Finish = choice["finish_reason"] if choice.get("finish_reason") in ("stop", "length") else "abort"
        completion = Completion(token_ids=[], logprobs=[], finish=finish, version=0)
        turn = Turn(prompt_ids=[], completion=completion, text=text)
        return Played(Trajectory(problem=problem, turns=[turn], status="done"), tokens)

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
        self, method: str, path: str, body: Mapping[str, Any] | None, attempts: int | None = None
    ) -> httpx.Response:
        """Send a request: the response is 200 or a refusal of this request; passing failures are tried again."""
        import httpx

        reason = ""
        attempts = attempts or self.attempts
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(self.pause_s * 2 ** (attempt - 1))
            try:
                response = await self._client.request(method, f"{self.url}/{path}", json=body)
            except httpx.HTTPError as error:
                reason = f"{type(error).__name__} {error}".strip()
                continue
            if response.status_code == 200 or (body is not None and response.status_code in (400, 413, 422)):
                return response
            reason = f"HTTP {response.status_code}: {response.text[:300]}"
            if response.status_code not in (408, 429) and response.status_code < 500:
                break
        raise EngineError(
            f"{self.url}/{path}: no answer after {attempt + 1} attempt(s) ({reason}); is the server running?"
        )
