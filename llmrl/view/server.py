"""Serve the page and its data: on loopback to whoever sits there, elsewhere to whoever has the key."""

from __future__ import annotations

import hmac
import json
import math
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from llmrl.clients.addresses import listening
from llmrl.clients.bearer import App, Guard, Receive, Scope, Send, reaches_others, read_key
from llmrl.view.answers import UnknownQueryError, View
from llmrl.view.runs import PICTURES, Runs, require_runs

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

KEY_VARIABLE = "LLMRL_VIEW_API_KEY"
COOKIE = "llmrl-view-key"
SCRIPTS = (
    *("core.js", "charts.js", "runs.js", "episodes.js", "tokens.js", "episode.js", "replays.js", "evaluations.js"),
    "app.js",
)
STYLE, PAGE = "style.css", "page.html"
TYPES = {".js": "text/javascript", ".css": "text/css"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
GRACE_S = 2
"""Seconds that open requests have when the viewer ends."""


def static(name: str) -> str:
    """The text of a file of the page."""
    return files("llmrl.view").joinpath("static", name).read_text(encoding="utf-8")


def serve(
    folders: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8400,
    api_key: str | None = None,
    tokenizer: Path | None = None,
    opened: bool = False,
) -> int:
    """Serve until ctrl-C or SIGTERM.

    Args:
        folders: of runs, or that hold runs.
        host: where to listen; beyond loopback a key is demanded, and made where none is given.
        port: 0 is a free one.
        api_key: that a browser must show; None: none on loopback.
        tokenizer: a folder with a tokenizer.json, for runs that have none.
        opened: also open the page in the browser of this machine.
    Returns:
        The exit code: 0 after ctrl-C.
    Raises:
        DataError: a folder is not there.
        RecipeError, EngineError: the port is taken, or the host is none of this machine's.
    """
    import uvicorn

    require_runs(folders)
    api_key = read_key(api_key)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    runs = Runs(folders)
    with listening(host, port) as sock:
        at, number = sock.getsockname()[:2]
        if api_key is None and reaches_others(at):
            api_key = secrets.token_urlsafe(24)
        url = address(at, number, api_key)
        count = len(runs.found())
        print(f"llmrl: {count} run{'' if count == 1 else 's'} at {url}\nctrl-C ends it", flush=True)
        if opened:
            import webbrowser

            webbrowser.open(url)
        config = uvicorn.Config(
            app(View(runs, tokenizer), api_key),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        try:
            uvicorn.Server(config).run(sockets=[sock])
        except KeyboardInterrupt:  # raised again once everything has ended
            print("llmrl: the viewer has stopped", file=sys.stderr)
        finally:
            runs.close()
    return 0


def address(host: str, port: int, key: str | None) -> str:
    """The address to open in a browser of this machine; with the key, which the first visit turns into a cookie."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{reached}]' if ':' in reached else reached}:{port}/{f'?key={key}' if key else ''}"


def app(view: View, api_key: str | None = None) -> Starlette:
    """Make the app: `/`, `/static/...`, `/api/...`, `/file` and `/health`, which alone needs no key."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    def page(request: Request) -> Response:
        return HTMLResponse(page_html(), headers=HEADERS)

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in (*SCRIPTS, STYLE):
            return Response("no such file", 404, HEADERS)
        return Response(static(name), headers=HEADERS, media_type=TYPES[Path(name).suffix])

    def answer(request: Request) -> Response:  # a plain function: it runs on a thread
        try:
            found = view.answer(request.path_params["name"], request.query_params)
        except UnknownQueryError as refused:
            return Response(plain({"error": str(refused)}), refused.status, HEADERS, "application/json")
        return Response(plain(found), 200, HEADERS, "application/json")

    def picture(request: Request) -> Response:
        try:
            path = view.picture(request.query_params)
            return Response(path.read_bytes(), 200, HEADERS, PICTURES[path.suffix.lower()])
        except (UnknownQueryError, OSError):
            return Response("no such picture", 404, HEADERS)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    # Without a key, a page of elsewhere whose name is made to mean this machine must not read what lies here
    guards = (
        Middleware(KeyGate, key=api_key) if api_key else Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    )
    routes = [
        Route("/", page),
        Route("/static/{name}", asset),
        Route("/api/{name}", answer),
        Route("/file", picture),
        Route("/health", health),
    ]
    return Starlette(routes=routes, middleware=[guards])


def page_html() -> str:
    """The page, which loads its scripts and its style."""
    scripts = "\n".join(f'<script src="static/{name}" defer></script>' for name in SCRIPTS)
    head = f'<link rel="stylesheet" href="static/{STYLE}">\n{scripts}'
    return static(PAGE).replace("<!-- head -->", head)


def plain(value: Any) -> str:
    """JSON as browsers read it: numbers that are not finite become texts."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


class KeyGate(Guard):
    """Lets pass who sends the key as `Authorization: Bearer`, or as the cookie that `/?key=...` sets."""

    def __init__(self, app: App, key: str) -> None:
        super().__init__(app, key)
        self._cookie = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0]
            if given and hmac.compare_digest(given.encode(), self._cookie):
                cookie = f"{COOKIE}={given}; HttpOnly; SameSite=Strict; Path=/"
                headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
                await send({"type": "http.response.start", "status": 303, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
        await super().__call__(scope, receive, send)

    def _passes(self, scope: Scope) -> bool:
        return super()._passes(scope) or any(
            hmac.compare_digest(sent.encode(), self._cookie) for sent in _cookies(scope)
        )


def _cookies(scope: Scope) -> list[str]:
    """The keys that a browser has sent as cookies."""
    found = []
    for name, value in scope["headers"]:
        if name.lower() == b"cookie":
            with suppress(CookieError):
                parsed = SimpleCookie(value.decode("latin-1"))
                found += [parsed[COOKIE].value] if COOKIE in parsed else []
    return found
