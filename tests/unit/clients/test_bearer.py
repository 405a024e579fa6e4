"""The guard of a server's routes, and where its key may come from."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmrl.clients.bearer import Guard, header, reaches_others, read_key
from llmrl.errors import RecipeError

KEY = "schlüssel-鍵"
RIGHT = [(b"authorization", b"Bearer " + KEY.encode())]
PREFLIGHT = [(b"origin", b"http://a"), (b"access-control-request-method", b"POST")]


def ask(scope: dict[str, Any], *, preflight: bool = False) -> tuple[bool, list[dict[str, Any]]]:
    """Send one request through a guard: whether the application saw it, and what was answered."""
    seen: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    async def receive() -> Any:
        raise AssertionError("the guard reads no body")

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(app, KEY, preflight=preflight)(scope, receive, send))
    return bool(seen), sent


def http(headers: list[tuple[bytes, bytes]], method: str = "POST", path: str = "/v1/completions") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": headers}


@pytest.mark.parametrize(
    "headers",
    [
        RIGHT,
        [(b"authorization", b"bearer " + KEY.encode())],
        [(b"Authorization", b"Bearer  " + KEY.encode() + b" ")],
        [(b"accept", b"*/*"), *RIGHT],
    ],
)
def test_the_key_opens(headers: list[tuple[bytes, bytes]]) -> None:
    assert ask(http(headers)) == (True, [])
    assert ask({"type": "websocket", "path": "/v1/realtime", "headers": headers}) == (True, [])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", KEY.encode())],
        [(b"authorization", b"Basic " + KEY.encode())],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer " + KEY.encode()[:-1])],
        [(b"authorization", b"Bearer " + KEY.encode() + b"x")],
        [(b"authorization", b"Bearer " + KEY.encode("utf-16"))],
        [*RIGHT, (b"authorization", b"Bearer other")],
        [(b"x-api-key", KEY.encode())],
        [(b"cookie", b"authorization=Bearer " + KEY.encode())],
    ],
)
def test_nothing_else_opens(headers: list[tuple[bytes, bytes]]) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "ANY"):
        passed, (start, body) = ask(http(headers, method), preflight=True)
        assert (passed, start["status"]) == (False, 401)
        assert json.loads(body["body"])["error"]["type"] == "unauthorized"
    passed, (closed,) = ask({"type": "websocket", "path": "/health", "headers": headers}, preflight=True)
    assert (passed, closed["type"]) == (False, "websocket.close")


def test_health_is_open_to_reading_alone() -> None:
    for method, path, open_ in [
        ("GET", "/health", True),
        ("HEAD", "/health", True),
        ("POST", "/health", False),
        ("GET", "/health/", False),
        ("GET", "//health", False),
        ("GET", "/healthz", False),
        ("GET", "/v1/health", False),
        ("GET", "/health/../metrics", False),
    ]:
        assert ask(http([], method, path))[0] is open_, (method, path)


def test_a_preflight_passes_only_where_a_middleware_answers_it() -> None:
    assert ask(http(PREFLIGHT, "OPTIONS"), preflight=True)[0]
    assert not ask(http(PREFLIGHT, "OPTIONS"))[0]
    assert not ask(http(PREFLIGHT, "POST"), preflight=True)[0]
    for part in PREFLIGHT:
        assert not ask(http([part], "OPTIONS"), preflight=True)[0]


def test_a_life_span_passes_and_an_unknown_kind_of_request_does_not() -> None:
    assert ask({"type": "lifespan"}) == (True, [])
    assert ask({"type": "webtransport", "path": "/health", "headers": []}) == (False, [])


def test_a_client_sends_any_key() -> None:
    request = httpx.Client(headers=header(KEY)).build_request("GET", "http://a")
    assert request.headers.raw[-1][1] == b"Bearer " + KEY.encode()
    assert header(None) == {}


def test_a_key_comes_from_a_file_or_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_key("other", file) == KEY
    assert read_key(KEY) == KEY
    assert read_key(None) is None
    for bad in ("", " ", "a b", "a\nb", "a\x00b"):
        with pytest.raises(RecipeError, match=r"--api-key: (an empty key|a key with spaces)"):
            read_key(bad)
    file.write_text("\n")
    with pytest.raises(RecipeError, match=f"--api-key-file {file}: an empty key"):
        read_key(None, file)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_key(None, tmp_path / "none")


def test_who_can_be_reached_from_elsewhere() -> None:
    assert not any(map(reaches_others, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert all(map(reaches_others, ("0.0.0.0", "::", "10.0.0.1", "no.such.host.invalid")))
