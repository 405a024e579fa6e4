"""The server of searches: a chat completion for a request, and refusals that say what was expected."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from llmrl.evaluation.search import SearchGenerator
from llmrl.plugins import build
from llmrl.reasoning.judge import AnswerJudge
from llmrl.reasoning.searcher import Searcher
from llmrl.serve.search import DEFAULT, app
from tests.unit.search.worlds import CHAT, TextJudge, engine

ASK = [{"role": "user", "content": "2+2?"}]


def post(body: Any, key: str | None = None, sent: str | None = None, route: str = "chat/completions") -> httpx.Response:
    asked = engine(["three", "4", "five!"])
    searcher = Searcher(
        engine=asked,
        chat=CHAT,
        strategy=build("search", {"name": "best_of_n", "n": 3}),
        judge=AnswerJudge(TextJudge(lambda text: float(len(text)))),
    )
    served = app(SearchGenerator(searcher, max_prompt_tokens=40), "mine", DEFAULT, key)
    headers = {} if sent is None else {"Authorization": f"Bearer {sent}"}

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://test/v1/", headers=headers) as client:
            return await (client.get(route) if body is None else client.post(route, json=body))

    return asyncio.run(send())


def test_a_request_is_answered_by_the_best_of_three() -> None:
    reply = post({"model": "mine", "messages": ASK, "max_tokens": 32, "seed": 5})
    assert reply.status_code == 200
    body = reply.json()
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "three"}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 6 + 2 + 6, "what all answers cost, each with its end"


def test_a_cut_answer_says_so() -> None:
    reply = post({"messages": ASK, "max_tokens": 3}).json()
    assert reply["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"messages": []}, "expected an object with `messages`"),
        ([], "expected an object with `messages`"),
        ({"messages": ASK, "stream": True}, "stream: a search answers once and whole"),
        ({"messages": ASK, "n": 2}, "n: a search answers once"),
        ({"messages": ASK, "tools": []}, "tools: a search"),
        ({"messages": ASK, "model": "other"}, "'other': not served; expected 'mine'"),
        ({"messages": ASK, "max_tokens": 5000}, "max_tokens 5000: expected 1 to 1024"),
        ({"messages": ASK, "temperature": "hot"}, "request.temperature"),
        ({"messages": [{"role": "user", "content": "x" * 60}]}, "at most 40 fit"),
    ],
)
def test_refusals(body: Any, words: str) -> None:
    reply = post(body)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


def test_the_key_guards_all_but_health() -> None:
    assert post({"messages": ASK}, key="k").status_code == 401
    assert post({"messages": ASK}, key="k", sent="k").status_code == 200
    assert post(None, key="k", sent="k", route="models").json()["data"][0]["id"] == "mine"
    assert post(None, key="k", route="http://test/health").status_code == 200
