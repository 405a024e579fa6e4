"""No route without the key: the route tables of vLLM's own application and of the reward server, walked whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import uvicorn

from llmrl.engines.server.vllm_app import guarded
from llmrl.scoring.trl_functions import TrainerState
from llmrl.serve.scoring import Scoring, ServerLimits, app

KEY = "a-key"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
PREFLIGHT = [(b"origin", b"http://a"), (b"access-control-request-method", b"POST")]


def paths(routes: Sequence[Any], prefix: str = "") -> Iterator[str]:
    """Every path of a route table; of a mounted application its own routes, its root and something below."""
    for route in routes:
        path = prefix + getattr(route, "path", "").replace("{", "").replace("}", "")
        if hasattr(route, "methods") or not hasattr(route, "app"):
            yield path
        else:  # a mount, or a websocket
            yield from (path, f"{path}/", f"{path}/x")
        yield from paths(getattr(route, "routes", None) or (), path)


def request(path: str, method: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
    }
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": list(headers)}
    return scope | {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "state": {}}


async def answer(application: Any, scope: dict[str, Any]) -> dict[str, Any]:
    """The first message that an application answers with."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect" if scope["type"] == "websocket" else "http.request", "body": b"{}"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive, send)
    return sent[0]


def refuses(application: Any, known: set[str]) -> None:
    """Walk: every path, as each kind of request, without a key and with a wrong one."""

    async def walk() -> None:
        for path in sorted(known):
            for headers in ([], [(b"authorization", b"Bearer another")]):
                for method in METHODS:
                    if (path, method) in {("/health", "GET"), ("/health", "HEAD")}:
                        continue
                    start = await answer(application, request(path, method, headers))
                    assert start["status"] == 401, (path, method, start)
                socket = request(path, "GET", headers) | {"type": "websocket", "subprotocols": []}
                assert (await answer(application, socket))["type"] == "websocket.close", path

    asyncio.run(walk())


def test_no_route_of_vllm_answers_without_the_key(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every route at once: of every task, of development mode, and of what is mounted."""
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    from vllm.config import ModelConfig
    from vllm.entrypoints.launchers.api_server.entry import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.tasks import SupportedTask
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", "m", "--enable-fault-tolerance"])
    tasks = tuple(task for alias in get_args(SupportedTask) for task in get_args(alias) or (alias,))
    made = build_app(arguments, tasks, ModelConfig(model=str(tiny_model_dir), runner="pooling"))
    known = set(paths(made.routes))
    assert {"/invocations", "/collective_rpc", "/metrics/x", "/docs", "/openapi.json", "/v1/realtime"} <= known
    assert {"/tokenize", "/generative_scoring", "/scale_elastic_ep", "/load", "/pooling", "/health"} <= known
    assert len(known) > 60

    monkeypatch.setattr(uvicorn.Config, "load", guarded(uvicorn.Config.load, KEY))
    config = uvicorn.Config(made)
    config.load()
    refuses(config.loaded_app, known | {"/", "/none", "/v1/none"})

    async def others() -> None:
        opened = await answer(config.loaded_app, request("/version", "GET", [(b"authorization", b"Bearer a-key")]))
        assert opened["status"] == 200
        for path in known:  # vLLM's CORS middleware answers a preflight, whatever the route
            start = await answer(config.loaded_app, request(path, "OPTIONS", PREFLIGHT))
            assert start["status"] == 200
            assert (b"content-length", b"2") in start["headers"], "OK, and nothing of the route"

    asyncio.run(others())


def test_no_route_of_the_reward_server_answers_without_the_key() -> None:
    state = TrainerState()
    made = app(Scoring(None, state, ServerLimits()), "none", KEY)  # type: ignore[arg-type]
    known = set(paths(made.routes))
    assert known == {"/score", "/health"}
    refuses(made, known | {"/", "/none"})
    preflight = asyncio.run(answer(made, request("/score", "OPTIONS", PREFLIGHT)))
    assert preflight["status"] == 401, "no browser asks it"
