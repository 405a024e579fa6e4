"""The engine `server` against a server that is played: requests cut off in their midst, tokens and versions kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from llmrl.engines.server import Server, fleet
from llmrl.engines.server.client import VllmClient
from llmrl.errors import EngineError, SyncError
from llmrl.types import Completion, Sampling


class Played:
    """A vLLM that says a token every millisecond: its weights' number times 1000, plus the length of what it reads."""

    def __init__(self) -> None:
        self.weights = 0
        self.hangs_up = 0  # orders under which it closes the connection
        self.late = False  # whether requests arrive after the first order
        self.paused = False
        self.running: set[asyncio.Event] = set()
        self.resumed: asyncio.Event | None = None
        self.asked: list[dict[str, Any]] = []
        self.hosts: list[str] = []  # that were asked for completions
        self.orders: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        if request.url.path == "/v1/completions":
            self.hosts.append(request.url.host)
            return httpx.Response(200, json={"choices": [await self.complete(json.loads(request.content))]})
        path = request.url.raw_path.decode()
        self.orders.append(path)
        if self.hangs_up:
            self.hangs_up -= 1
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
        self.resumed = self.resumed or asyncio.Event()
        if path.startswith("/pause"):
            self.paused = True
            self.resumed.clear()
            while "abort" not in path and self.running:
                await asyncio.sleep(0.001)
            for cut in self.running:
                cut.set()
        if path == "/collective_rpc":
            assert self.paused
            assert not self.running, "weights change under no request"
            self.weights += 1
        if path == "/resume":
            self.paused = False
            self.resumed.set()
        return httpx.Response(200, json={"success": True})

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        if "prompt_logprobs" in body:  # of each token but the first
            scores = [{str(token): {"logprob": -float(token)}} for token in body["prompt"]]
            return {"token_ids": [1], "prompt_logprobs": [None, *scores[1:]], "finish_reason": "length"}
        while self.late and not self.orders:  # on its way
            await asyncio.sleep(0.001)
        cut = asyncio.Event()
        self.running.add(cut)
        ids: list[int] = []
        try:
            while len(ids) < body["max_tokens"] and not cut.is_set():
                if self.paused and self.resumed is not None:  # it came while no request begins
                    waits = [asyncio.ensure_future(event.wait()) for event in (self.resumed, cut)]
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                    for wait in waits:
                        wait.cancel()
                    continue
                ids.append(1000 * self.weights + len(body["prompt"]) + len(ids))
                await asyncio.sleep(0.001)
        finally:
            self.running.discard(cut)
        finish = "length" if len(ids) == body["max_tokens"] else "abort"
        logprobs = {"token_logprobs": [-float(token) for token in ids]} if ids else None
        return {"token_ids": ids, "logprobs": logprobs, "finish_reason": finish}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = Played()
    client = httpx.AsyncClient
    monkeypatch.setattr(
        httpx,
        "AsyncClient",
        lambda **options: client(timeout=options["timeout"], transport=httpx.MockTransport(server)),
    )
    monkeypatch.setattr(fleet, "_CUT_S", 0.02)
    started: list[VllmClient] = []

    def start(**options: Any) -> tuple[Played, VllmClient]:
        urls = options.pop("urls", ["http://played"])
        settings = Server(urls=urls, timeout_s=options.pop("timeout_s", 10.0), **options)
        started.append(settings.start("m", dtype="float32", seed=0, max_model_len=500, stop_token_ids=[]))
        return server, started[-1]

    yield start
    for remote in started:
        remote.close()


def ask(remote: VllmClient, loads: int, count: int = 4, max_tokens: int = 100) -> list[Completion]:
    async def both() -> list[Completion]:
        jobs = [
            asyncio.ensure_future(remote.generate([i] * (i + 1), Sampling(seed=i, max_tokens=max_tokens)))
            for i in range(count)
        ]
        for version in range(1, loads + 1):
            await asyncio.sleep(0.02)
            await asyncio.to_thread(remote.load, [("a", torch.zeros(1))], version)
        return await asyncio.gather(*jobs)

    return asyncio.run(both())


def test_without_updates_in_flight_weights_wait_for_requests(played: Any) -> None:
    server, remote = played()
    said = ask(remote, 1)
    assert {(c.version, c.versions) for c in said} == {(0, None)}
    assert all(token < 1000 for c in said for token in c.token_ids)
    assert server.orders == ["/pause?mode=wait", "/collective_rpc", "/reset_prefix_cache", "/resume"]
    assert (remote.version, len(server.asked)) == (1, 4)


def test_an_order_under_which_the_server_hung_up_is_given_once_more(played: Any) -> None:
    server, remote = played()
    server.hangs_up = 1
    remote.load([("a", torch.zeros(1))], 1)
    assert server.orders == ["/pause?mode=wait"] * 2 + ["/collective_rpc", "/reset_prefix_cache", "/resume"]
    assert server.weights == 1
    server.hangs_up = 2
    with pytest.raises(SyncError, match="RemoteProtocolError"):
        remote.load([("a", torch.zeros(1))], 2)


def test_updates_in_flight_cut_requests_off_and_let_them_go_on(played: Any) -> None:
    server, remote = played(in_flight_updates=True)
    said = ask(remote, 2)
    assert remote.version == server.weights == 2
    for i, c in enumerate(said):
        assert len(c.token_ids) == len(c.logprobs) == 100
        assert c.finish == "length"
        versions = c.versions or [c.version] * 100
        # the server's token says which weights made it and how much it had read: nothing twice, nothing left out
        assert list(c.token_ids) == [1000 * version + i + 1 + t for t, version in enumerate(versions)]
        assert list(c.logprobs) == [-float(token) for token in c.token_ids]
        assert c.version == versions[0]
    assert any(c.versions is not None and {0, 1, 2} <= set(c.versions) for c in said)


def test_what_goes_on_draws_other_numbers(played: Any) -> None:
    server, remote = played(in_flight_updates=True)
    ask(remote, 1, count=1)
    first, *later = server.asked
    assert first["seed"] == 0
    assert later
    assert all(body["seed"] not in (0, None) for body in later if len(body["prompt"]) > 1)


def test_a_request_that_had_not_arrived_is_cut_off_too(played: Any) -> None:
    """It left before the pause and arrived after it: the new weights would answer it, under the old ones' version."""
    server, remote = played(in_flight_updates=True)
    server.late = True

    async def both() -> Completion:
        job = asyncio.ensure_future(remote.generate([1], Sampling(max_tokens=10)))
        while not server.asked:
            await asyncio.sleep(0)
        await asyncio.to_thread(remote.load, [("a", torch.zeros(1))], 1)
        said: Completion = await job
        return said

    said = asyncio.run(both())
    assert list(said.token_ids) == [1001 + t for t in range(10)]
    assert (said.version, said.versions) == (1, None)
    assert server.orders.count("/pause?mode=abort") > 1


def test_requests_that_do_not_end_in_time_are_an_error(played: Any) -> None:
    _, remote = played(timeout_s=0.3)
    with pytest.raises((SyncError, EngineError), match=r"engine\.timeout_s|no completion within"):
        ask(remote, 1, max_tokens=490)


def test_weights_are_gathered_before_requests_are_halted(played: Any, tmp_path: Path) -> None:
    """Taking them from a sharded trainer is slow, and the servers have work meanwhile."""
    _, remote = played(in_flight_updates=True, sync_dir=str(tmp_path))
    open_: list[bool] = []

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        open_.append(remote._fleet._open.is_set())
        yield "a", torch.zeros(1)

    remote.load(weights(), 1)
    assert open_ == [True]
    assert not list(tmp_path.iterdir())


def test_requests_go_to_the_idlest_server(played: Any) -> None:
    server, remote = played(urls=["http://one", "http://two"])
    ask(remote, 0, count=8, max_tokens=10)
    assert sorted(server.hosts) == ["one"] * 4 + ["two"] * 4


def test_a_score_is_that_of_its_token(played: Any) -> None:
    _, remote = played()
    assert asyncio.run(remote.score([5, 7, 9])) == [-7.0, -9.0]
    assert asyncio.run(remote.score([5])) == []
