"""Wait for asynchronous code from synchronous code, on one event loop for the whole process.

Clients of servers hold connections that belong to a loop, so a new loop for every wait would break them.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_runner: asyncio.Runner | None = None
_thread: threading.Thread | None = None
_waiting: list[asyncio.Task[Any]] = []  # the task that somebody waits for, if any
_interruption: BaseException | None = None  # ends the wait of now, or else the next one


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its result. Inside of somebody else's running loop, a notebook's, that one stands.

    Raises:
        BaseException: that of `interrupt`, where it was called meanwhile.
    """
    if _thread is None and _in_a_loop():  # which lets no other run in this thread
        background()
        try:
            return wait(coroutine)
        finally:
            foreground()
    runner, task = _the_runner(), _interruptible(coroutine)
    try:
        if _thread is None:
            return runner.run(task)
        future = asyncio.run_coroutine_threadsafe(task, runner.get_loop())
        try:
            return future.result()
        except BaseException:  # an interrupt ends what was waited for, too
            future.cancel()
            raise
    except (asyncio.CancelledError, concurrent.futures.CancelledError):
        error = uninterrupted()
        if error is None:
            raise
        raise error from None


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def waiting() -> bool:
    """Tell whether somebody waits."""
    return bool(_waiting)


def interrupt(error: BaseException) -> None:
    """Cancel what is waited for, or what will be next, and raise `error` there. For handlers of signals."""
    global _interruption
    _interruption = error
    for task in tuple(_waiting):
        _the_runner().get_loop().call_soon_threadsafe(task.cancel)


def uninterrupted() -> BaseException | None:
    """Take back an interruption that no wait has met; returns it."""
    global _interruption
    error, _interruption = _interruption, None
    return error


async def _interruptible(coroutine: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    _waiting.append(task)
    try:
        if _interruption is not None:
            coroutine.close()
            raise asyncio.CancelledError
        return await coroutine
    finally:
        _waiting.remove(task)


def background() -> None:
    """Run the loop on a thread of its own from now on, so that tasks go on while nobody waits."""
    global _thread
    if _thread is None:
        _thread = threading.Thread(target=_the_runner().get_loop().run_forever, name="llmrl-aio", daemon=True)
        _thread.start()


def foreground() -> None:
    """Run the loop only while somebody waits, as at first; unfinished tasks pause in between.

    Safe to call twice.
    """
    global _thread
    if _thread is not None:
        loop = _the_runner().get_loop()
        loop.call_soon_threadsafe(loop.stop)
        _thread.join()
        _thread = None


def in_background() -> bool:
    """Tell whether the loop runs on a thread of its own, so that tasks go on while nobody waits."""
    return _thread is not None


def _the_runner() -> asyncio.Runner:
    global _runner
    if _runner is None:
        _runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # never the thread's own, which others may run
        atexit.register(_close, _runner)
    return _runner


def _close(runner: asyncio.Runner) -> None:
    foreground()
    runner.close()
