"""The gateway as it runs: on loopback, on the event loop of the engine that answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmrl import aio
from llmrl.chat import Chat
from llmrl.clients.addresses import listening
from llmrl.gateway.app import app
from llmrl.gateway.recorder import CallRecorder
from llmrl.gateway.sessions import Sessions
from llmrl.protocols import Engine

BACKLOG = 2048  # connections that wait while the loop stands still
END_S = 2.0


class Gateway:
    """Serves sessions before an engine. It starts with the first `url()` and serves while its event loop runs."""

    def __init__(self, engine: Engine, chat: Chat, sessions: Sessions | None = None, port: int = 0) -> None:
        self.sessions = Sessions() if sessions is None else sessions
        self._recorder = CallRecorder(engine=engine, chat=chat)
        self._port = port
        self._socket: socket.socket | None = None
        self._server: Any = None
        self._task: asyncio.Task[None] | None = None

    async def url(self) -> str:
        """Return where it listens, such as http://127.0.0.1:41234; start it where it does not run yet.

        Raises:
            EngineError: the port is taken.
        """
        if self._socket is None:
            self._socket = listening("127.0.0.1", self._port, BACKLOG)
            self._server = self._made()
            self._task = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
        host, port = self._socket.getsockname()[:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop serving; safe to call twice."""
        task, self._task = self._task, None
        if task is None:
            return
        self._server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            done, _ = await asyncio.wait({task}, timeout=END_S)
            if not done:
                task.cancel()
                await asyncio.wait({task}, timeout=END_S)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Stop serving, from code that does not run on the event loop; safe to call twice."""
        if self._task is not None:
            aio.wait(self.stop())

    def _made(self) -> Any:
        import uvicorn

        class Server(uvicorn.Server):
            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # signals are the run's: it stops in order

        served = app(self.sessions, self._recorder)
        config = uvicorn.Config(
            served, log_level="warning", access_log=False, lifespan="off", loop="none", timeout_graceful_shutdown=1
        )
        return Server(config)
