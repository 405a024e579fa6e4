"""A server that speaks OpenAI's language, in this process: retries, refusals, nonsense."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from llmrl.errors import EngineError
from llmrl.evaluation.generators import Played
from llmrl.evaluation.remote import RemoteGenerator
from llmrl.types import Problem, Sampling

PROBLEM = Problem(id="p", messages=[{"role": "user", "content": "2+2?"}], answer="4")
MODELS = (200, {"data": [{"id": "m"}]})
ANSWER = (
    200,
    {"choices": [{"message": {"content": "4"}, "finish_reason": "length"}], "usage": {"completion_tokens": 3}},
)
Reply = tuple[int, Any]
Serve = Callable[..., str]


class Server(ThreadingHTTPServer):
    models: Reply = MODELS
    replies: list[Reply]
    heard: list[dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._send(self.server.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.heard.append(body | {"path": self.path, "key": self.headers.get("Authorization")})
        self._send(self.server.replies.pop(0))

    def _send(self, reply: Reply) -> None:
        content = json.dumps(reply[1]).encode()
        self.send_response(reply[0])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.replies, server.heard = [], []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


def ask(server: Server, times: int = 1, **options: Any) -> list[Played]:
    async def go() -> list[Played]:
        url = f"http://127.0.0.1:{server.server_port}/v1/"
        async with RemoteGenerator(url, pause_s=0.001, timeout_s=5, attempts=3, **options) as player:
            return [
                await player.generate(PROBLEM, Sampling(temperature=0.5, max_tokens=9, seed=7)) for _ in range(times)
            ]

    return asyncio.run(go())


def test_a_problem_is_asked_and_the_answer_taken(server: Server) -> None:
    server.replies = [ANSWER]
    (played,) = ask(server, system_prompt="be short", api_key="secret", chat_template_kwargs={"enable_thinking": False})
    assert (played.trajectory.text, played.tokens, played.trajectory.truncated) == ("4", 3, True)
    (heard,) = server.heard
    assert heard == {
        "path": "/v1/chat/completions",
        "key": "Bearer secret",
        "model": "m",
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "2+2?"}],
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 9,
        "seed": 7,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_what_may_pass_is_tried_again_up_to_a_limit(server: Server) -> None:
    server.replies = [(503, "busy"), (429, "slow down"), ANSWER]
    assert ask(server)[0].trajectory.text == "4"
    server.replies = [(500, "broken")] * 3
    with pytest.raises(EngineError, match=r"no answer after 3 attempt\(s\) \(HTTP 500: .*broken"):
        ask(server)
    server.replies = [(401, "who are you")]
    with pytest.raises(EngineError, match=r"no answer after 1 attempt\(s\) \(HTTP 401: .*who are you"):
        ask(server)


def test_a_refused_problem_is_an_episode_but_refusing_everything_is_an_error(server: Server) -> None:
    server.replies = [(400, "too long"), ANSWER]
    refused, answered = ask(server, times=2)
    assert (refused.trajectory.status, answered.trajectory.status) == ("error", "done")
    assert "HTTP 400" in refused.trajectory.reason
    server.replies = [(400, "no such option")] * 5
    with pytest.raises(EngineError, match=r"first 5 requests were refused; the last: HTTP 400: .*no such option"):
        ask(server, times=5)


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{"message": {"content": "4"}}]}])
def test_nonsense_is_named(server: Server, answer: Any) -> None:
    server.replies = [(200, answer)]
    with pytest.raises(EngineError, match="not a chat completion with usage"):
        ask(server)


@pytest.mark.parametrize(
    ("models", "chosen", "message"),
    [
        ([{"id": "a"}, {"id": "b"}], "", "several models are served; choose one; found a, b"),
        ([{"id": "a"}], "c", "'c' is not served; found a"),
        ([], "c", "'c' is not served; found none"),
        ({"odd": 1}, "", "not an OpenAI server's answer"),
    ],
)
def test_the_model_must_be_served(server: Server, models: Any, chosen: str, message: str) -> None:
    server.models = (200, {"data": models})
    with pytest.raises(EngineError, match=message):
        ask(server, model=chosen)


def test_nobody_there_is_said(server: Server) -> None:
    server.server_close()
    with pytest.raises(EngineError, match=r"/v1/models: no answer after 1 attempt.*is the server running\?"):
        ask(server)
