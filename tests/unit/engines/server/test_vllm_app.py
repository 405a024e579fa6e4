"""The order in which vLLM's server ends, on a client that behaves as vLLM's does."""

from __future__ import annotations

import asyncio
import time

import pytest

from llmrl.engines.server.vllm_app import in_order


class Requests:
    """Requests that wait for an answer."""

    def __init__(self) -> None:
        self.request_states = {"1": "streaming", "2": "waiting"}
        self.aborted: list[str] = []

    def abort_requests(self, names: list[str], *, internal: bool) -> None:
        assert internal
        self.aborted += names


class Client:
    """Its reader takes the end of the engine's answers for a crash, if it lives to see it."""

    def __init__(self) -> None:
        self.output_processor = Requests()
        self.answers: asyncio.Queue[str] = asyncio.Queue()
        self.crashed = False
        self.loop = asyncio.get_running_loop()
        self.output_handler = asyncio.create_task(self.read())

    async def read(self) -> None:
        await self.answers.get()
        self.crashed = True

    def shutdown(self, timeout: float = 1.0) -> None:
        self.loop.call_soon_threadsafe(self.answers.put_nowait, "closed")
        time.sleep(0.05)  # the loop goes on meanwhile
        self.loop.call_soon_threadsafe(self.output_handler.cancel)


def ended(method: object) -> Client:
    """The client after `method` ran in another thread, as in vLLM."""

    async def run() -> Client:
        client = Client()
        await asyncio.sleep(0)  # the reader begins
        await asyncio.to_thread(method, client, timeout=0.0)  # type: ignore[arg-type]
        await asyncio.wait([client.output_handler], timeout=5)
        return client

    return asyncio.run(run())


def test_without_order_the_reader_sees_a_crash() -> None:
    assert ended(Client.shutdown).crashed


def test_the_reader_ends_before_the_engine_and_requests_are_aborted() -> None:
    client = ended(in_order(Client.shutdown))
    assert not client.crashed
    assert client.output_handler.cancelled()
    assert client.output_processor.aborted == ["1", "2"]


@pytest.mark.parametrize("started", [False, True])
def test_a_client_without_a_reader_is_only_shut_down(started: bool) -> None:
    class Bare:
        calls = 0

        def shutdown(self) -> None:
            self.calls += 1

    bare = Bare()
    if started:  # asked twice: the reader has ended, and its loop is closed
        bare.output_handler = ended(in_order(Client.shutdown)).output_handler  # type: ignore[attr-defined]
    in_order(Bare.shutdown)(bare)
    assert bare.calls == 1
