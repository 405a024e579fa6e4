"""A server that speaks OpenAI's language, in this process: retries, refusals, nonsense."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmrl.errors import EngineError
from llmrl.evaluation.generators import Played
from llmrl.evaluation.remote import RemoteGenerator
from llmrl.types import Problem, Sampling
from tests.http_server import HttpServer, in_turn

PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "2+2?"}], answer="4")
ANSWER = (
    200,
    {"choices": [{"message": {"content": "4"}, "finish_reason": "length"}], "usage": {"completion_tokens": 3}},
)


def ask(server: HttpServer, times: int = 1, **options: Any) -> list[Played]:
    async def go() -> list[Played]:
        url = f"{server.url}/v1/"
        async with RemoteGenerator(url, pause_s=0.001, timeout_s=5, attempts=3, **options) as player:
            return [
                await player.generate(PROBLEM, Sampling(temperature=0.5, max_tokens=9, seed=7)) for _ in range(times)
            ]

    return asyncio.run(go())


def test_a_problem_is_asked_and_the_answer_taken(server: HttpServer) -> None:
    server.answer = in_turn(ANSWER)
    (played,) = ask(server, system_prompt="be short", api_key="secret", chat_template_kwargs={"enable_thinking": False})
    assert (played.trajectory.text, played.tokens, played.trajectory.truncated) == ("4", 3, True)
    (request,) = server.requests
    assert (request.path, request.key) == ("/v1/chat/completions", "Bearer secret")
    assert request.body == {
        "model": "m",
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "2+2?"}],
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 9,
        "seed": 7,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_what_may_pass_is_tried_again_up_to_a_limit(server: HttpServer) -> None:
    server.answer = in_turn((503, "busy"), (429, "slow down"), ANSWER)
    assert ask(server)[0].trajectory.text == "4"
    server.answer = in_turn(*[(500, "broken")] * 3)
    with pytest.raises(EngineError, match=r"no answer after 3 attempt\(s\) \(HTTP 500: .*broken"):
        ask(server)
    server.answer = in_turn((401, "who are you"))
    with pytest.raises(EngineError, match=r"HTTP 401: .*who are you.*; it wants another key.*--api-key"):
        ask(server)


def test_a_refused_problem_is_an_episode_but_refusing_everything_is_an_error(server: HttpServer) -> None:
    server.answer = in_turn((400, "too long"), ANSWER)
    refused, answered = ask(server, times=2)
    assert (refused.trajectory.status, answered.trajectory.status) == ("error", "done")
    assert "HTTP 400" in refused.trajectory.reason
    server.answer = in_turn(*[(400, "no such option")] * 5)
    with pytest.raises(EngineError, match=r"first 5 requests were refused; the last: HTTP 400: .*no such option"):
        ask(server, times=5)


NONSENSE = [
    {},
    [],
    "4",
    b"<html>",
    {"choices": []},
    {"choices": None},
    {"choices": [{}]},
    {"choices": [{"message": "4"}]},
]


@pytest.mark.parametrize("answer", NONSENSE)
def test_nonsense_is_tried_again_and_named(server: HttpServer, answer: Any) -> None:
    server.answer = in_turn((200, answer), ANSWER)
    assert ask(server)[0].trajectory.text == "4"
    server.answer = in_turn((200, answer))
    with pytest.raises(EngineError, match=r"no usable answer after 3 attempt\(s\) \(not a chat completion"):
        ask(server)


def reply(message: Any, finish: Any = "stop", **body: Any) -> tuple[int, Any]:
    return 200, {"choices": [{"message": message, "finish_reason": finish}], **body}


@pytest.mark.parametrize("usage", [{}, {"usage": None}, {"usage": {"completion_tokens": None}}, {"usage": "many"}])
def test_a_reply_without_usage_is_an_answer_of_unknown_length(server: HttpServer, usage: Any) -> None:
    server.answer = in_turn(reply({"content": "4"}, **usage))
    (played,) = ask(server)
    assert (played.trajectory.text, played.tokens, played.trajectory.status) == ("4", None, "done")


CALL = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("message", "finish", "reason"),
    [
        ({"content": None}, "content_filter", "finish_reason content_filter of the server"),
        ({"content": "I ca"}, "content_filter", "finish_reason content_filter"),
        ({"content": None, "tool_calls": CALL}, "tool_calls", "finish_reason tool_calls of the server"),
        ({"content": "", "tool_calls": CALL}, "stop", "finish_reason tool_calls"),
        ({"content": None}, "function_call", "finish_reason function_call"),
        ({"content": "4"}, "abort", "finish_reason abort"),
        ({"content": None}, "stop", "a message of the server without content"),
        ({}, None, "a message of the server without content"),
    ],
)
def test_what_is_the_servers_doing_is_unjudged(server: HttpServer, message: Any, finish: Any, reason: str) -> None:
    server.answer = in_turn(reply(message, finish))
    (played,) = ask(server)
    assert (played.trajectory.status, played.trajectory.turns) == ("error", [])
    assert played.trajectory.reason.startswith(reason)


@pytest.mark.parametrize(
    ("message", "finish", "written", "truncated"),
    [
        ({"content": ""}, "stop", "", False),
        ({"content": None}, "length", "", True),
        ({"content": "4"}, None, "4", False),
        ({"content": "4"}, "eos_token", "4", False),
        ({"content": "4"}, "max_tokens", "4", True),
        ({"content": None, "refusal": "I cannot"}, "stop", "I cannot", False),
        ({"content": [{"type": "text", "text": "so "}, {"type": "text", "text": "4"}]}, "stop", "so 4", False),
        ({"content": "4", "tool_calls": [], "reasoning_content": None}, "stop", "4", False),
        ({"content": "4", "reasoning_content": "2+2"}, "stop", "<think>\n2+2\n</think>\n\n4", False),
        ({"content": None, "reasoning": "2+"}, "length", "<think>\n2+", True),
        ({"content": "2+2</think>4"}, "stop", "<think>\n2+2</think>4", False),
        ({"content": "<think>2+2</think>4"}, "stop", "<think>2+2</think>4", False),
    ],
)
def test_an_answer_is_what_the_model_wrote(
    server: HttpServer, message: Any, finish: Any, written: str, truncated: bool
) -> None:
    server.answer = in_turn(reply(message, finish))
    (played,) = ask(server)
    assert (played.trajectory.written, played.trajectory.truncated) == (written, truncated)


def test_the_server_says_how_long_to_wait(server: HttpServer) -> None:
    server.answer = in_turn((429, "slow down", {"Retry-After": "0.2"}), ANSWER)
    assert ask(server)[0].trajectory.text == "4"
    first, second = (request.at for request in server.requests)
    assert second - first >= 0.2


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/v1", "http://127.0.0.1:port/v1", "http://[::1/v1"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    async def go() -> None:
        async with RemoteGenerator(url):
            pass

    with pytest.raises(EngineError, match=r"^url 'http:.*expected http://\.\.\. or https://\.\.\., such as http"):
        asyncio.run(go())


@pytest.mark.parametrize(
    ("models", "chosen", "message"),
    [
        ([{"id": "a"}, {"id": "b"}], "", "several models are served; choose one; found a, b"),
        ([{"id": "a"}], "c", "'c' is not served; found a"),
        ([], "c", "'c' is not served; found none"),
        ({"odd": 1}, "", "not an OpenAI server's answer"),
    ],
)
def test_the_model_must_be_served(server: HttpServer, models: Any, chosen: str, message: str) -> None:
    server.models = (200, {"data": models})
    with pytest.raises(EngineError, match=message):
        ask(server, model=chosen)


def test_nobody_there_is_said(server: HttpServer) -> None:
    server.close()
    with pytest.raises(EngineError, match=r"/v1/models: no answer after 1 attempt.*is the server running\?"):
        ask(server)


def test_an_address_without_v1_is_no_server_that_is_away(server: HttpServer) -> None:
    server.models = (404, {"detail": "Not Found"})
    with pytest.raises(EngineError, match=rf"HTTP 404.*the server runs.*is /v1 missing\? Expected {server.url}/v1$"):
        asyncio.run(_entered(RemoteGenerator(server.url)))


async def _entered(generator: RemoteGenerator) -> None:
    async with generator:
        pass
