"""A scripted HTTP server on loopback, for tests of clients; conftest.py has it as the fixture `server`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any] | tuple[int, Any, Mapping[str, str]]
"""A status (0 hangs up), a body (bytes are sent as they are, all else as JSON), and headers."""

Answer = Callable[[Any], Reply]
"""The reply to a request's body, which is read as JSON."""


@dataclass(frozen=True)
class Request:
    """A POST request, as it arrived."""

    path: str
    key: str | None  # the header Authorization
    data: bytes
    at: float  # time.monotonic()

    @property
    def body(self) -> Any:
        return json.loads(self.data) if self.data else None


class HttpServer:
    """Answers POST by `answer` and GET by `models`; keeps every POST request."""

    def __init__(self, port: int = 0, answer: Answer = lambda body: (404, {"error": "the test set no answer"})) -> None:
        self.answer = answer
        self.models: Reply = (200, {"data": [{"id": "m"}]})
        self.requests: list[Request] = []
        self.busy = self.most = 0  # requests in progress at once
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hung up
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def asked(self) -> list[Any]:
        """The bodies of the requests."""
        return [request.body for request in self.requests]

    def reply(self, request: Request) -> Reply:
        """The reply to a request; a subclass may look at its path."""
        return self.answer(request.body)

    def handle(self, request: Request) -> Reply:
        """Counts the request, and replies."""
        with self._lock:
            self.requests.append(request)
            self.busy += 1
            self.most = max(self.most, self.busy)
        try:
            return self.reply(request)
        finally:
            with self._lock:
                self.busy -= 1

    def close(self) -> None:
        """Ends the server; a second call does nothing."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)


def _handler(server: HttpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(*server.models)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send(*server.handle(Request(self.path, self.headers.get("Authorization"), data, time.monotonic())))

        def send(self, status: int, body: Any, headers: Mapping[str, str] = {}) -> None:  # only read
            if status == 0:
                self.close_connection = True
                return
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = "Content-Length" in headers

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def completion(content: Any, finish: str = "stop", usage: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The body of a chat completion; a content that is no text is written as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": usage or {"prompt_tokens": 100, "completion_tokens": 10}}


def in_turn(*replies: Reply) -> Answer:
    """The first, the second, ...; the last again and again."""
    left = list(replies)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]
