from __future__ import annotations

import asyncio

import pytest

from llmrl.aio import wait


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
