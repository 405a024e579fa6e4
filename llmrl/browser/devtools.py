"""Client of the Chrome DevTools protocol over one WebSocket: the calls, replies and events of all pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

CALL_S = 20.0
"""Seconds that a call may take: a page that computes without end answers never."""
Listener = Callable[[str, Mapping[str, Any]], None]


class PageLostError(ConnectionError):
    """A page or its browser is gone, or does not answer: its episode cannot go on, the next one can begin."""


class DevToolsError(RuntimeError):
    """Chromium refuses a call: the page moved on meanwhile, or an element is no longer there."""


class DevTools:
    """A connection to a running Chromium. Belongs to the event loop on which it was made."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._replies: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._listeners: dict[str, Listener] = {}
        self._last = 0
        self._reader = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def connect(cls, url: str) -> DevTools:
        """Connect to the browser behind this WebSocket address."""
        return cls(await connect(url, max_size=None, ping_interval=None, compression=None, open_timeout=CALL_S))

    @property
    def is_open(self) -> bool:
        """True until Chromium ends or the connection is closed."""
        return not self._reader.done()

    def listen(self, session: str, listener: Listener) -> None:
        """Give the events of a session to a function of the event's name and its parameters."""
        self._listeners[session] = listener

    def forget(self, session: str) -> None:
        """Stop listening to a session."""
        self._listeners.pop(session, None)

    async def call(
        self, method: str, params: Mapping[str, Any] | None = None, *, session: str = "", timeout_s: float = CALL_S
    ) -> Mapping[str, Any]:
        """Call a method and return its result.

        Raises:
            DevToolsError: Chromium refuses it; names the method and the reason.
            PageLostError: no answer within `timeout_s`, or the connection is closed.
        """
        if not self.is_open:
            raise PageLostError(f"{method}: Chromium has ended")
        self._last += 1
        number = self._last
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params or {}}
        try:
            async with asyncio.timeout(timeout_s):
                await self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
                answer = await reply
        except TimeoutError:
            raise PageLostError(f"{method}: no answer from the page within {timeout_s:g} s") from None
        except ConnectionClosed:
            raise PageLostError(f"{method}: Chromium has ended") from None
        finally:
            self._replies.pop(number, None)
        if "error" in answer:
            raise DevToolsError(f"{method}: {answer['error'].get('message')}")
        result: Mapping[str, Any] = answer["result"]
        return result

    async def close(self) -> None:
        """Close the connection; calls that wait raise PageLostError."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1.0):
                await self._socket.close()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                self._take(json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            for reply in self._replies.values():
                if not reply.done():
                    reply.set_exception(PageLostError("Chromium has ended"))

    def _take(self, message: Mapping[str, Any]) -> None:
        if "id" in message:
            reply = self._replies.get(message["id"])
            if reply is not None and not reply.done():
                reply.set_result(message)
        elif listener := self._listeners.get(message.get("sessionId", "")):
            listener(message["method"], message["params"])
