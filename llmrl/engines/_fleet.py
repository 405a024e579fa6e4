"""HTTP to vLLM's servers: requests to the idlest, retried with a limit, and orders that all must carry out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from llmrl.engines._api_server import ApiServer
from llmrl.errors import EngineError, SyncError

if TYPE_CHECKING:
    from llmrl.engines.server import Server

_GROUP_SLACK = 32  # requests that a server may be busier than the idlest and still get the prompts it has prefilled
_KEEPALIVE_S = 2.0  # below the 5 s after which the server drops an idle connection
_CONNECT_S = 30.0


@dataclass(slots=True, eq=False)
class _Peer:
    """One server."""

    url: str
    model: str = ""
    outstanding: int = 0
    own: ApiServer | None = None  # where we started it

    def log(self) -> str:
        """What its log ends with, to go behind a message."""
        if self.own is None:
            return ""
        return f"; the end of its log ({self.own.child.log}):\n{self.own.child.tail(15)}"


class Fleet:
    """Servers with the same weights. Everything but the constructor runs on one event loop."""

    def __init__(self, options: Server, running: Sequence[ApiServer]) -> None:
        self._options = options
        self._peers = [_Peer(s.url, own=s) for s in running] or [_Peer(url.rstrip("/")) for url in options.urls]
        self._homes: dict[tuple[int, ...], _Peer] = {}  # which server has prefilled a prompt
        self._jobs = 0  # requests that have begun, those between two tries included
        self.version = 0  # of the weights they hold

    async def connect(self) -> None:
        """Ask each server for the name of its model.

        Raises:
            EngineError: one does not answer, or refuses us.
        """
        key = self._options.api_key
        self._open = asyncio.Event()  # closed while weights change
        self._open.set()
        self._ended = asyncio.Condition()
        self._client = httpx.AsyncClient(
            timeout=self._options.timeout_s,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_S),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=bool(self._options.urls),  # a proxy has no business on loopback
        )
        for peer in self._peers:
            try:
                reply = await self._client.get(f"{peer.url}/v1/models", timeout=_CONNECT_S)
            except httpx.HTTPError as error:
                raise EngineError(
                    f"engine server: {peer.url} does not answer: {_why(error)}; check engine.urls"
                ) from error
            if reply.status_code != 200:
                raise EngineError(f"engine server: {peer.url}/v1/models: {_said(reply)}; check engine.urls and api_key")
            peer.model = self._options.served_model_name or reply.json()["data"][0]["id"]

    async def close(self) -> None:
        await self._client.aclose()

    async def complete(self, body: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """A server's choice for a completion request, and the version of the weights that made it.

        Raises:
            EngineError: refused, not answered in time, or failed on every try.
        """
        await self._open.wait()
        self._jobs += 1
        version = self.version
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return await self._persist(body), version
        except TimeoutError:
            raise EngineError(
                f"engine server: no completion within {self._options.timeout_s:g} s; raise engine.timeout_s"
            ) from None
        finally:
            self._jobs -= 1
            async with self._ended:
                self._ended.notify_all()

    async def _persist(self, body: dict[str, Any]) -> dict[str, Any]:
        failed: set[_Peer] = set()
        for attempt in range(self._options.retries + 1):
            if attempt:
                await asyncio.sleep(min(0.25 * 2**attempt, 10.0))
            peer = self._pick(tuple(body["prompt"]), failed)
            found = await self._try(peer, body)
            if isinstance(found, dict):
                return found
            failed.add(peer)
        tries = self._options.retries + 1
        raise EngineError(f"engine server: {peer.url} and {tries} tries: {found}{peer.log()}")

    def _pick(self, prompt: tuple[int, ...], failed: set[_Peer]) -> _Peer:
        able = [p for p in self._peers if p not in failed] or self._peers
        idlest = min(able, key=lambda p: p.outstanding)
        home = self._homes.get(prompt)
        if home in able and home.outstanding <= idlest.outstanding + _GROUP_SLACK:
            return home
        self._homes[prompt] = idlest
        return idlest

    async def _try(self, peer: _Peer, body: dict[str, Any]) -> dict[str, Any] | str:
        """The choice; or, as text, a failure that another try may cure."""
        body = body | {"model": peer.model, "return_token_ids": True}
        peer.outstanding += 1
        try:
            reply = await self._client.post(f"{peer.url}/v1/completions", json=body)
        except httpx.TransportError as error:
            return _why(error)
        finally:
            peer.outstanding -= 1
        if reply.status_code >= 500:
            return _said(reply)
        if reply.status_code != 200:
            raise EngineError(f"engine server: {peer.url} refused a request: {_said(reply)}")
        choice: dict[str, Any] = reply.json()["choices"][0]
        return choice

    async def reload(self, path: str, version: int) -> None:
        """Everyone's weights from a file, when the requests that run have ended; later ones wait for it.

        Raises:
            SyncError: a server did not take them, or requests did not end in time.
        """
        async with self._quiet():
            await self.everywhere("/pause?mode=wait")  # requests of other clients
            await self.everywhere("/collective_rpc", {"method": "reload_file", "args": [path]})
            await self.everywhere("/reset_prefix_cache")  # it holds what the old weights computed
            await self.everywhere("/resume")
            self._homes.clear()
            self.version = version

    @asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """No request of ours runs or begins inside."""
        self._open.clear()
        try:
            async with asyncio.timeout(self._options.timeout_s):
                async with self._ended:
                    await self._ended.wait_for(lambda: self._jobs == 0)
                yield
        except TimeoutError:
            limit = f"{self._options.timeout_s:g}"
            raise SyncError(f"engine server: the weights were not taken within engine.timeout_s={limit}") from None
        finally:
            self._open.set()

    async def layer_norms(self, body: dict[str, Any]) -> list[list[float]]:
        """What the first server's worker extension sees while it answers `body`: (layers, tokens)."""
        first = self._peers[0]
        await self._order(first, "/reset_prefix_cache")
        await self._order(first, "/collective_rpc", {"method": "watch_layers"})
        await self._try(first, body)
        norms: list[list[float]] = (await self._order(first, "/collective_rpc", {"method": "layer_norms"}))["results"][
            0
        ]
        return norms

    async def everywhere(self, route: str, body: dict[str, Any] | None = None) -> None:
        """POST to all.

        Raises:
            SyncError: one did not do it.
        """
        await asyncio.gather(*(self._order(peer, route, body) for peer in self._peers))

    async def _order(self, peer: _Peer, route: str, body: dict[str, Any] | None = None) -> Any:
        try:
            reply = await self._client.post(peer.url + route, json=body)
        except httpx.TransportError as error:
            raise SyncError(f"engine server: {peer.url}{route}: {_why(error)}{peer.log()}") from error
        if reply.status_code == 404:
            raise SyncError(
                f"engine server: {peer.url} has no {route}; start it with VLLM_SERVER_DEV_MODE=1 and "
                "--worker-extension-cls llmrl.engines._worker.WeightReceiver (docs/engines.md)"
            )
        if reply.status_code != 200 or (route == "/reset_prefix_cache" and not reply.json()["success"]):
            raise SyncError(f"engine server: {peer.url}{route}: {_said(reply)}{peer.log()}")
        return reply.json() if reply.content else None


def _why(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def _said(reply: httpx.Response) -> str:
    return f"HTTP {reply.status_code}: {reply.text[:500]}"
