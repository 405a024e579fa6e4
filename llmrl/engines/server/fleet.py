"""HTTP to vLLM's servers: requests to the idlest, retried with a limit, and orders that all must carry out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import httpx

from llmrl.clients.bearer import header
from llmrl.engines.server.process import ApiServer
from llmrl.errors import EngineError, SyncError

if TYPE_CHECKING:
    from llmrl.engines.server.options import ServerOptions

_GROUP_SLACK = 32  # requests that a server may be busier than the idlest and still get the prompts it has prefilled
_KEEPALIVE_S = 2.0  # below the 5 s after which the server drops an idle connection
_CONNECT_S = 30.0
_CUT = "/pause?mode=abort"  # running requests end with the tokens sampled so far
_CUT_S = 0.5  # until they are cut off once more

Piece = tuple[dict[str, Any], int]
"""What a server answered, and the version of its weights."""


@dataclass(slots=True, eq=False)
class _Peer:
    """A server of the fleet."""

    url: str
    model: str = ""
    outstanding: int = 0
    own: ApiServer | None = None  # where we started it

    def log(self) -> str:
        """End of its log, to append to a message."""
        if self.own is None:
            return ""
        return f"; the end of its log ({self.own.child.log}):\n{self.own.child.tail(15)}"


class Fleet:
    """Servers with the same weights. Everything but the constructor runs on one event loop."""

    def __init__(self, options: ServerOptions, running: Sequence[ApiServer]) -> None:
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
        self._open = asyncio.Event()  # closed while weights change
        self._open.set()
        self._ended = asyncio.Condition()
        self._client = httpx.AsyncClient(
            timeout=self._options.timeout_s,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_S),
            headers=header(self._options.api_key),
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
                raise EngineError(
                    f"engine server: {peer.url}/v1/models: {_described(reply)}; check engine.urls and api_key"
                )
            peer.model = self._options.served_model_name or reply.json()["data"][0]["id"]

    async def close(self) -> None:
        await self._client.aclose()

    async def complete(self, body: dict[str, Any]) -> list[Piece]:
        """Send a completion request; the server's choice, with the version of the weights that sampled it.

        Several where new weights came in its midst: each continues the one before it, which was cut off.

        Raises:
            EngineError: refused, not answered in time, or failed on every try.
        """
        pieces: list[Piece] = []
        while True:
            await self._open.wait()
            version = self.version
            choice = await self._job(_rest(body, pieces))
            pieces.append((choice, version))
            if not self._options.in_flight_updates or choice["finish_reason"] != "abort":
                return pieces

    async def _job(self, body: dict[str, Any]) -> dict[str, Any]:
        """Wait for a choice; no weights change meanwhile."""
        self._jobs += 1
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return await self._persist(body)
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
        """Try a request once: the choice or, as text, a failure that another try may cure."""
        body = body | {"model": peer.model, "return_token_ids": True}
        peer.outstanding += 1
        try:
            reply = await self._client.post(f"{peer.url}/v1/completions", json=body)
        except httpx.TransportError as error:
            return _why(error)
        finally:
            peer.outstanding -= 1
        if reply.status_code >= 500:
            return _described(reply)
        if reply.status_code != 200:
            raise EngineError(f"engine server: {peer.url} refused a request: {_described(reply)}")
        choice: dict[str, Any] = reply.json()["choices"][0]
        return choice

    async def halt(self) -> None:
        """Stop our requests until `go_on`: each has ended, or was cut off to continue later; none begins.

        Raises:
            SyncError: requests did not end in time.
        """
        self._open.clear()
        try:
            async with asyncio.timeout(self._options.timeout_s):
                if self._options.in_flight_updates:
                    await self.everywhere(_CUT)
                while not await self._quiet(_CUT_S if self._options.in_flight_updates else None):
                    await self.everywhere(_CUT)  # requests that had been sent, but had not arrived
        except BaseException as error:
            self._open.set()
            if not isinstance(error, TimeoutError):
                raise
            limit = f"{self._options.timeout_s:g}"
            raise SyncError(f"engine server: requests did not end within engine.timeout_s={limit}") from None

    async def go_on(self) -> None:
        """Let requests run and begin again."""
        self._open.set()

    async def reload(self, path: str) -> None:
        """Load every server's weights from a file; between `halt` and `go_on`.

        Raises:
            SyncError: a server did not take them.
        """
        if not self._options.in_flight_updates:
            await self.everywhere("/pause?mode=wait")  # requests of other clients
        await self.everywhere("/collective_rpc", {"method": "reload_file", "args": [path]})
        await self.everywhere("/reset_prefix_cache")  # it holds what the old weights computed
        await self.everywhere("/resume")

    async def loaded(self, version: int) -> None:
        """Record that the servers hold this version."""
        self._homes.clear()
        self.version = version

    async def _quiet(self, limit_s: float | None) -> bool:
        """Wait until all our requests have ended, at most for the limit; False where it passed."""
        try:
            async with asyncio.timeout(limit_s), self._ended:
                await self._ended.wait_for(lambda: self._jobs == 0)
        except TimeoutError:
            return False
        return True

    async def layer_norms(self, body: dict[str, Any]) -> list[list[float]]:
        """Norms that the first server's worker extension records while it answers `body`: (layers, tokens)."""
        first = self._peers[0]
        await self._order(first, "/reset_prefix_cache")
        await self._order(first, "/collective_rpc", {"method": "watch_layers"})
        await self._try(first, body)
        norms: list[list[float]] = (await self._order(first, "/collective_rpc", {"method": "layer_norms"}))["results"][
            0
        ]
        return norms

    async def everywhere(self, route: str, body: dict[str, Any] | None = None) -> None:
        """POST to all servers.

        Raises:
            SyncError: a server did not carry it out.
        """
        await asyncio.gather(*(self._order(peer, route, body) for peer in self._peers))

    async def _given(self, peer: _Peer, route: str, body: dict[str, Any] | None) -> httpx.Response:
        """Post an order; it is sent again where the server closed the idle connection that carried it.

        On a busy machine that happens whatever `_KEEPALIVE_S` is; carrying an order out twice does no harm.
        """
        try:
            return await self._client.post(peer.url + route, json=body)
        except httpx.RemoteProtocolError:
            return await self._client.post(peer.url + route, json=body)

    async def _order(self, peer: _Peer, route: str, body: dict[str, Any] | None = None) -> Any:
        try:
            reply = await self._given(peer, route, body)
        except httpx.TransportError as error:
            raise SyncError(f"engine server: {peer.url}{route}: {_why(error)}{peer.log()}") from error
        if reply.status_code == 404:
            raise SyncError(
                f"engine server: {peer.url} has no {route}; start it with VLLM_SERVER_DEV_MODE=1 and "
                "--worker-extension-cls llmrl.engines.vllm.worker.WeightReceiver (docs/engines.md)"
            )
        if reply.status_code != 200 or (route == "/reset_prefix_cache" and not reply.json()["success"]):
            raise SyncError(f"engine server: {peer.url}{route}: {_described(reply)}{peer.log()}")
        return reply.json() if reply.content else None


def _rest(body: dict[str, Any], pieces: Sequence[Piece]) -> dict[str, Any]:
    """Request for the missing rest. Its seed is another: the same seed would draw the same numbers again."""
    sampled = [token for choice, _ in pieces for token in choice["token_ids"] or ()]
    if not sampled:
        return body
    seed = body.get("seed")
    return body | {
        "prompt": body["prompt"] + sampled,
        "max_tokens": body["max_tokens"] - len(sampled),
        "seed": None if seed is None else Random(f"{seed}/{len(sampled)}").getrandbits(31),
    }


def _why(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()


def _described(reply: httpx.Response) -> str:
    return f"HTTP {reply.status_code}: {reply.text[:500]}"
