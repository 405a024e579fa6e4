"""The key of a server: where its user keeps it, how clients send it, and the guard that demands it."""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from llmrl.errors import RecipeError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def read_key(given: str | None, file: Path | None = None, *, where: str = "--api-key") -> str | None:
    """The key in `file`, or else `given`; None where neither is there.

    Args:
        where: the option or variable of `given`, for messages.
    Raises:
        RecipeError: the file cannot be read, or the key is empty or holds what no HTTP header carries.
    """
    if file is not None:
        where = f"--api-key-file {file}"
        try:
            given = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{where}: cannot be read: {error}; expected a file that holds the key alone") from None
    if given is None:
        return None
    if not given or any(c.isspace() or not c.isprintable() for c in given):
        found = "an empty key" if not given else "a key with spaces or control characters"
        raise RecipeError(f"{where}: {found}; expected visible characters, such as `openssl rand -hex 32` prints")
    return given


def header(key: str | None) -> dict[bytes, bytes]:
    """The header that carries the key, as bytes, because `httpx` takes text in ASCII only; none without a key."""
    return {b"Authorization": b"Bearer " + key.encode()} if key else {}


def reaches_others(host: str) -> bool:
    """Tell whether a server that listens on `host` can be reached from other machines."""
    try:
        addresses = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return True
    return not all(ipaddress.ip_address(address).is_loopback for address in addresses)


def open_to_all(place: str, variable: str) -> str:
    """Warn of a server at `place` that demands no key; `variable` is the environment variable for one."""
    return (
        f"llmrl: warning: whoever reaches {place} may use it, because no key is set; set {variable} or give "
        "--api-key-file FILE"
    )


class Guard:
    """ASGI middleware that answers 401 to every request without the key, whatever its route; `/health` is open.

    A websocket is closed before it is accepted. The comparison takes the same time for every wrong key.

    Args:
        app: called for requests that may pass.
        preflight: let a browser's CORS preflight pass, which by its standard carries no key; for applications in which
            a middleware answers it before any route does.
    """

    def __init__(self, app: App, key: str, *, preflight: bool = False) -> None:
        self._app = app
        self._key = key.encode()
        self._preflight = preflight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._passes(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "unauthorized"})
        elif scope["type"] == "http":
            message = "expected `Authorization: Bearer` with the server's key"
            body = json.dumps({"error": {"type": "unauthorized", "message": message}}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            headers.append((b"www-authenticate", b"Bearer"))
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _passes(self, scope: Scope) -> bool:
        if scope["type"] == "lifespan":
            return True
        names = [name.lower() for name, _ in scope["headers"]]
        if scope["type"] == "http":
            if scope["path"] == "/health" and scope["method"] in ("GET", "HEAD"):
                return True
            asks = scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= set(names)
            if self._preflight and asks:
                return True
        sent = [value for name, (_, value) in zip(names, scope["headers"], strict=True) if name == b"authorization"]
        scheme, _, key = (sent[0] if len(sent) == 1 else b"").partition(b" ")
        return hmac.compare_digest(key.strip(b" "), self._key) and scheme.lower() == b"bearer"
