"""How often an answer verifies, backtracks, sets subgoals and chains backward, as a language model judges it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmrl.errors import RewardError
from llmrl.types import Score, Trajectory

if TYPE_CHECKING:
    import httpx

COUNT = re.compile(r"<count>\s*(\d{1,4})\s*</count>", re.IGNORECASE)
QUESTIONS: Mapping[str, str] = {
    "verification": "How often does the writer compare a result with the target, in so many words or by saying how far "
    "off it is? Example: 'That makes 19, and 19 is not 44.' is one.",
    "backtracking": "How often does the writer give up a line of attempts and begin another that does not use the last "
    "result? Example: 'That leads nowhere. Let me begin with 25 - 3 instead.' is one.",
    "subgoal": "How often does the writer name a value in between that is to be reached first, before going on to the "
    "target? Example: 'If I can make 22, doubling it is enough.' is one.",
    "backward_chaining": "How often does the writer reason from the target back to the given numbers? Example: 'Since "
    "44 is 2 times 22, the other numbers must make 22.' is one.",
}
"""Version 1. A count is comparable with counts by the same judge model and the same version only."""
FRAME = (
    "Below are a problem and somebody's reasoning about it. Read the reasoning and count one kind of behaviour; do not "
    "solve the problem, and do not judge whether the reasoning is right.\n\n[Problem]\n{problem}\n\n"
    "[Reasoning]\n{text}\n\n[Question]\n{question}\nEnd with the number alone between tags, such as <count>0</count>."
)
PASSING = (408, 409, 425, 429)  # HTTP statuses that another try may cure, besides those from 500 on
REFUSALS = (401, 403, 404)  # a wrong key, address or model: every request would fail


@dataclass(frozen=True, kw_only=True)
class BehaviourJudge:
    """Counts, as `parts`, and never a value: weight 0 in a mix logs `rewards/behaviour_judge/<name>`.

    Four questions per answer, one for each behaviour, to any server with OpenAI's chat completions. A reply without a
    count, or no reply after all tries, gives None, which no mean counts; `unanswered` says how many of the four there
    were. With any weight but 0 no answer can be scored: paying for counts would teach the words without the deeds.

    Raises:
        RewardError: the server refuses everybody, as for a wrong key or an unknown model.
    Source: behaviours and measure of Gandhi et al. 2025 (arXiv 2503.01307); the questions are our own.
    """

    url: str = "http://127.0.0.1:8000/v1"  # up to and with /v1
    model: str = ""  # as the server calls it; pin one, since counts of two judges cannot be compared. "": its only one
    api_key_variable: str = "OPENAI_API_KEY"  # the environment variable that holds the key, if there is one
    share: float = 1.0  # of the answers that are judged, chosen by problem and episode; the others have no counts
    temperature: float = 0.0
    max_tokens: int = 512  # of a reply
    timeout_s: float = 60.0  # of one try
    retries: int = 2  # after the first try
    pause_s: float = 1.0  # before the first retry; doubles
    concurrency: int = 16  # requests at a time, of one group

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0 or self.retries < 0 or self.timeout_s <= 0 or self.concurrency < 1:
            raise ValueError("expected 0 < share <= 1, retries at least 0, timeout_s above 0, concurrency at least 1")

    async def score(self, group: Sequence[Trajectory]) -> list[Score]:
        import httpx

        key = os.environ.get(self.api_key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=self.concurrency)
        slots = asyncio.Semaphore(self.concurrency)
        async with httpx.AsyncClient(headers=headers, timeout=self.timeout_s, limits=limits) as client:
            asker = _Asker(self, client, slots, self.model)
            if not self.model and any(map(self._chosen, group)):
                asker.model = await asker.only_model()
            return list(await asyncio.gather(*(self._score(asker, one) for one in group)))

    def _chosen(self, one: Trajectory) -> bool:
        digest = hashlib.blake2b(f"{one.group}/{one.problem.id}/{one.episode}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.share * 2**64

    async def _score(self, asker: _Asker, one: Trajectory) -> Score:
        if not self._chosen(one):
            return Score(None, reason="not among the answers that are judged")
        problem = "\n".join(str(message.get("content", "")) for message in one.problem.messages)
        prompts = [FRAME.format(problem=problem, text=one.text, question=question) for question in QUESTIONS.values()]
        replies = await asyncio.gather(*(asker.ask(prompt) for prompt in prompts))
        found = {name: None if reply is None else count(reply) for name, reply in zip(QUESTIONS, replies, strict=True)}
        missing = [name for name, number in found.items() if number is None]
        reason = f"no count of {', '.join(missing)}; {asker.failure}".rstrip("; ") if missing else "counted, never paid"
        return Score(None, parts=found | {"unanswered": float(len(missing))}, reason=reason)


@dataclass
class _Asker:
    """One group's connection to the judge."""

    options: BehaviourJudge
    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    model: str
    failure: str = ""  # the last, for people

    async def only_model(self) -> str:
        """The name of the one model that is served; "" where nobody answers.

        Raises:
            RewardError: there are several, or it is no OpenAI server.
        """
        reply = await self._tries("GET", "models", None)
        if reply is None:
            return ""
        try:
            names = [str(entry["id"]) for entry in reply.json()["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise RewardError(
                f"reward behaviour_judge: {self.options.url}/models: not an OpenAI server's answer ({error!r}); "
                "is /v1 missing?"
            ) from None
        if len(names) != 1:
            raise RewardError(f"reward behaviour_judge: {self.options.url} serves {names}; choose one as `model`")
        return names[0]

    async def ask(self, prompt: str) -> str | None:
        """The reply; None where there was none after all tries."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.options.temperature,
            "max_tokens": self.options.max_tokens,
        }
        async with self.slots:
            reply = await self._tries("POST", "chat/completions", body)
        if reply is None:
            return None
        try:
            return str(reply.json()["choices"][0]["message"]["content"] or "")
        except (ValueError, KeyError, TypeError, IndexError):
            self.failure = f"not a chat completion: {reply.text[:120]!r}"
            return None

    async def _tries(self, method: str, path: str, body: Mapping[str, object] | None) -> httpx.Response | None:
        import httpx

        url = f"{self.options.url.rstrip('/')}/{path}"
        for attempt in range(self.options.retries + 1):
            if attempt:
                await asyncio.sleep(self.options.pause_s * 2 ** (attempt - 1))
            try:
                async with asyncio.timeout(self.options.timeout_s):
                    reply = await self.client.request(method, url, json=body)
            except (httpx.TransportError, TimeoutError) as error:
                self.failure = f"{url}: {type(error).__name__} {error}".rstrip()
                continue
            if reply.status_code == 200:
                return reply
            self.failure = f"{url}: HTTP {reply.status_code}: {reply.text[:200]}"
            if reply.status_code in REFUSALS:
                key = self.options.api_key_variable
                raise RewardError(f"reward behaviour_judge: {self.failure}; check url, model and ${key}")
            if reply.status_code < 500 and reply.status_code not in PASSING:
                return None  # this very request: a text that is too long, say
        return None


def count(reply: str) -> int | None:
    """The number in the last pair of count tags; None where there is none, which is not 0."""
    found = COUNT.findall(reply)
    return int(found[-1]) if found else None


plugin = BehaviourJudge
