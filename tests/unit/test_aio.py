from __future__ import annotations

import asyncio
import threading
import time

import pytest

from llmrl.aio import background, foreground, interrupt, uninterrupted, wait, waiting


async def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_every_wait_is_served_by_the_same_loop() -> None:
    assert wait(loop()) is wait(loop())


def test_results_and_errors_come_through() -> None:
    async def answer(right: bool) -> int:
        await asyncio.sleep(0)
        if not right:
            raise KeyError("nothing here")
        return 42

    assert wait(answer(True)) == 42
    with pytest.raises(KeyError, match="nothing here"):
        wait(answer(False))
    assert wait(answer(True)) == 42


def test_a_task_left_behind_goes_on_in_the_next_wait() -> None:
    async def begin() -> asyncio.Task[str]:
        async def later() -> str:
            await asyncio.sleep(0.01)
            return "done"

        return asyncio.create_task(later())

    async def finish(task: asyncio.Task[str]) -> str:
        return await task

    assert wait(finish(wait(begin()))) == "done"


def test_in_the_background_tasks_go_on_while_nobody_waits() -> None:
    done = threading.Event()

    async def begin() -> None:
        async def later() -> None:
            await asyncio.sleep(0.01)
            done.set()

        tasks.append(asyncio.create_task(later()))

    tasks: list[asyncio.Task[None]] = []
    before = wait(loop())
    wait(begin())
    time.sleep(0.03)
    assert not done.is_set(), "in the foreground they stand still"
    background()
    background()
    try:
        assert done.wait(10)
        assert wait(loop()) is before
    finally:
        foreground()
    foreground()
    assert wait(loop()) is before
    assert not any(thread.name == "llmrl-aio" for thread in threading.enumerate())


def test_an_interrupted_wait_ends_what_it_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    class Interrupted:
        def __init__(self, future: object) -> None:
            self.future = future

        def result(self) -> None:
            time.sleep(0.02)  # it has begun
            raise KeyboardInterrupt

        def cancel(self) -> None:
            self.future.cancel()  # type: ignore[attr-defined]

    begin = asyncio.run_coroutine_threadsafe
    background()
    try:
        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", lambda *args: Interrupted(begin(*args)))
        with pytest.raises(KeyboardInterrupt):
            wait(forever())
        assert ended.wait(10)
    finally:
        foreground()


@pytest.mark.parametrize("in_background", [False, True])
def test_an_interruption_ends_the_wait_and_is_raised_there(in_background: bool) -> None:
    async def forever() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.append(True)

    def interrupting() -> None:
        while not waiting():
            time.sleep(0.001)
        interrupt(KeyError("asked to"))

    ended: list[bool] = []
    if in_background:
        background()
    try:
        thread = threading.Thread(target=interrupting)
        thread.start()
        with pytest.raises(KeyError, match="asked to"):
            wait(forever())
        thread.join()
        assert wait(loop()) is not None, "the next wait is its own"
        assert ended == [True]
    finally:
        foreground()


def test_an_interruption_that_comes_early_meets_the_next_wait_unless_it_is_taken_back() -> None:
    interrupt(KeyError("asked to"))
    with pytest.raises(KeyError, match="asked to"):
        wait(asyncio.sleep(600))
    interrupt(KeyError("asked to"))
    assert isinstance(uninterrupted(), KeyError)
    assert wait(loop()) is not None
    assert uninterrupted() is None
